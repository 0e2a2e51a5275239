/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An iommufd IOAS with one scratch page that every device attached to it can
 * reach, on plain iommufd ioctls.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef SELFTESTS_GMEM_IOMMU_IOAS_H
#define SELFTESTS_GMEM_IOMMU_IOAS_H

#include <stddef.h>

#include <linux/types.h>

/* The scratch page of every IOAS: an ordinary mapping, away from all bindings. */
#define IOAS_SCRATCH_IOVA	0x70000000ULL

/**
 * struct ioas - An IOAS
 * @iommufd: Its iommufd; -1 if closed
 * @id: Its object id
 * @scratch: Host address of the page at IOAS_SCRATCH_IOVA
 */
struct ioas {
	int iommufd;
	__u32 id;
	void *scratch;
};

int ioas_open(struct ioas *ioas);	/* in a new iommufd */
int ioas_open_in(struct ioas *ioas, int iommufd);
void ioas_close(struct ioas *ioas);	/* closes the iommufd */

int ioas_map(struct ioas *ioas, __u64 iova, void *addr, size_t size);
int ioas_unmap(struct ioas *ioas, __u64 iova, __u64 size);

/* @flags: enum iommufd_hwpt_alloc_flags */
int ioas_hwpt_alloc(struct ioas *ioas, __u32 dev_id, __u32 flags, __u32 *hwpt_id);
int iommufd_destroy(int iommufd, __u32 id);

#endif /* SELFTESTS_GMEM_IOMMU_IOAS_H */
