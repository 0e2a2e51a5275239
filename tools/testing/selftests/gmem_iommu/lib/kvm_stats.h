/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM's own counters, of a VM or of a vCPU.
 */
#ifndef SELFTESTS_GMEM_IOMMU_KVM_STATS_H
#define SELFTESTS_GMEM_IOMMU_KVM_STATS_H

#include <linux/types.h>

#define KVM_COUNTERS_MAX	512

/**
 * struct kvm_counters - All counters of a VM or of a vCPU at one time
 * @nr: Number of @values
 * @values: In the order of the kernel; a histogram has several
 */
struct kvm_counters {
	__u32 nr;
	__u64 values[KVM_COUNTERS_MAX];
};

/* The value of the counter @name of the VM or vCPU @fd, or -errno. */
long long kvm_stat(int fd, const char *name);

/* Read all counters of the VM or vCPU @fd. Returns 0 or -errno. */
int kvm_counters_read(int fd, struct kvm_counters *counters);

/*
 * Compare the counters of @fd with what they were. Returns "", or the first that
 * differs in a buffer that is valid until the thread's next call.
 */
const char *kvm_counters_changed(int fd, const struct kvm_counters *before);

#endif /* SELFTESTS_GMEM_IOMMU_KVM_STATS_H */
