/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest's program (guest.S) and the VMM (gmem_vm.c) agree on.
 */
#ifndef SELFTESTS_GMEM_IOMMU_GUEST_H
#define SELFTESTS_GMEM_IOMMU_GUEST_H

/* The guest reports with an OUT to this port. */
#define GUEST_PORT_DONE		0x80

/* Commands */
#define GUEST_CMD_FILL		1
#define GUEST_CMD_VERIFY	2
#define GUEST_CMD_MAP_GPA_RANGE	3

/* Offsets in struct gmem_vm_mbox */
#define MBOX_CMD		0
#define MBOX_GPA		4
#define MBOX_NPAGES		8
#define MBOX_ARG		12
#define MBOX_RET		16
#define MBOX_USE_VMMCALL	20

/* Word of the pattern: (address ^ seed) * factor. */
#define PATTERN_FACTOR		0x9e3779b1

#ifndef __ASSEMBLER__
#include <linux/types.h>

/**
 * struct gmem_vm_mbox - How the VMM tells the guest what to do
 * @cmd: GUEST_CMD_*
 * @gpa: First byte
 * @npages: Pages
 * @arg: Seed of the pattern, or the attributes of the hypercall
 * @ret: Answer: number of wrong words, or what the hypercall returned
 * @use_vmmcall: The hypercall instruction is vmmcall (AMD), not vmcall
 */
struct gmem_vm_mbox {
	__u32 cmd;
	__u32 gpa;
	__u32 npages;
	__u32 arg;
	__u32 ret;
	__u32 use_vmmcall;
};

extern const __u8 guest_prog_start[];
extern const __u8 guest_prog_end[];
#endif /* __ASSEMBLER__ */

#endif /* SELFTESTS_GMEM_IOMMU_GUEST_H */
