/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's program: a command loop in 32-bit protected mode without paging.
 *
 * %ebp points to the mailbox. The guest reports with an OUT, which exits to the
 * VMM, at the start and after each command; the VMM then leaves the next command
 * in the mailbox. The code does not depend on its address and has no stack.
 */
#include "guest.h"

#define KVM_HC_MAP_GPA_RANGE	12

	.section .rodata
	.globl	guest_prog_start, guest_prog_end
	.code32

guest_prog_start:
report:
	outb	%al, $GUEST_PORT_DONE

	movl	MBOX_GPA(%ebp), %ebx
	movl	MBOX_NPAGES(%ebp), %ecx
	movl	MBOX_ARG(%ebp), %edx
	movl	MBOX_CMD(%ebp), %eax
	cmpl	$GUEST_CMD_FILL, %eax
	je	fill
	cmpl	$GUEST_CMD_VERIFY, %eax
	je	verify
	cmpl	$GUEST_CMD_MAP_GPA_RANGE, %eax
	je	map_gpa_range
	jmp	report

	/* Write the pattern of seed %edx at %ebx, %ecx pages. */
fill:
	shll	$10, %ecx		/* words */
1:	movl	%ebx, %eax
	xorl	%edx, %eax
	imull	$PATTERN_FACTOR, %eax, %eax
	movl	%eax, (%ebx)
	addl	$4, %ebx
	decl	%ecx
	jnz	1b
	movl	$0, MBOX_RET(%ebp)
	jmp	report

	/* Count the words that are not the pattern. */
verify:
	shll	$10, %ecx
	xorl	%esi, %esi
1:	movl	%ebx, %eax
	xorl	%edx, %eax
	imull	$PATTERN_FACTOR, %eax, %eax
	cmpl	(%ebx), %eax
	je	2f
	incl	%esi
2:	addl	$4, %ebx
	decl	%ecx
	jnz	1b
	movl	%esi, MBOX_RET(%ebp)
	jmp	report

	/* %ebx: gpa, %ecx: pages, %edx: attributes */
map_gpa_range:
	movl	$KVM_HC_MAP_GPA_RANGE, %eax
	cmpl	$0, MBOX_USE_VMMCALL(%ebp)
	jne	1f
	vmcall
	jmp	2f
1:	vmmcall
2:	movl	%eax, MBOX_RET(%ebp)
	jmp	report
guest_prog_end:

	.section .note.GNU-stack, "", @progbits
