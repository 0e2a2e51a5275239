/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM's own counters, of a VM or of a vCPU.
 */
#ifndef SELFTESTS_GMEM_IOMMU_KVM_STATS_H
#define SELFTESTS_GMEM_IOMMU_KVM_STATS_H

/* The value of the counter @name of the VM or vCPU @fd, or -errno. */
long long kvm_stat(int fd, const char *name);

#endif /* SELFTESTS_GMEM_IOMMU_KVM_STATS_H */
