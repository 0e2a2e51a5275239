/* SPDX-License-Identifier: GPL-2.0 */
/* What sparse 0.6.4 lacks for this kernel: with these it checks instead of giving up. */
#define __typeof_unqual__ __typeof__
#define __builtin_strlen(string) (sizeof(string) - 1)
