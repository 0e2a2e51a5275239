// SPDX-License-Identifier: GPL-2.0
/*
 * The parts of correct and of spoiled requests, see refusal.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>

#include "refusal.h"

void *map_pages(size_t nr)
{
	return mmap(NULL, PAGES(nr), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int create_fault_queue(struct refusal *b)
{
	struct iommu_fault_alloc args = { .size = sizeof(args) };
	int ret = xioctl(b->ioas.iommufd, IOMMU_FAULT_QUEUE_ALLOC, &args);

	return ret ?: (int)args.out_fault_id;
}

static int create_destroyed_ioas(struct refusal *b)
{
	struct iommu_ioas_alloc args = { .size = sizeof(args) };
	int ret = xioctl(b->ioas.iommufd, IOMMU_IOAS_ALLOC, &args);

	if (!ret)
		ret = iommufd_destroy(b->ioas.iommufd, args.out_ioas_id);
	return ret ?: (int)args.out_ioas_id;
}

int make_fd(struct refusal *b, enum kind kind)
{
	int fds[2];

	switch (kind) {
	case FD_CLOSED:
		fds[0] = open("/", O_RDONLY);
		close(fds[0]);
		return fds[0];
	case FD_PIPE:
		return pipe(fds) ? -errno : fds[0];
	case FD_MEMFD:
		return memfd_create("refusal", 0);
	case FD_DIR:
		return open("/", O_RDONLY);
	case FD_KVM:
		return open("/dev/kvm", O_RDWR);
	case FD_VM:
		return b->vm_fd;
	case FD_GMEM:
		return b->gmem_fd;
	case FD_GMEM_PLAIN:
		return gmem_create_fd(b->vm_fd, FILE_SIZE, 0);
	case FD_IOMMU:
		return open("/dev/iommu", O_RDWR);
	case FD_DEVICE:
		return b->dev_fd;
	case FD_BINDING:
		return b->witness;
	case ID_FAULT_QUEUE:
		return create_fault_queue(b);
	case ID_DESTROYED_IOAS:
		return create_destroyed_ioas(b);
	default:
		return -EINVAL;
	}
}

void make_info(struct refusal *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->info.size = sizeof(req->info);
}

void make_bind(struct refusal *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->bind.size = sizeof(req->bind);
	req->bind.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE |
			  GMEM_IOMMU_BIND_FIXED_IOVA;
	req->bind.gmem_fd = b->gmem_fd;
	req->bind.iommufd = b->ioas.iommufd;
	req->bind.ioas_id = b->ioas.id;
	req->bind.length = FILE_SIZE;
	req->bind.iova = IOVA;
	req->bind.max_leaf_size = GMEM_PAGE_SIZE;
	req->bind.out_fd = -1;
}

void make_query(struct refusal *b, union request *req)
{
	static struct gmem_iommu_run runs[NR_PAGES];

	memset(req, 0, sizeof(*req));
	req->query.size = sizeof(req->query);
	req->query.nr_runs = NR_PAGES;
	req->query.runs = (unsigned long)runs;
}

void make_stats(struct refusal *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->stats.size = sizeof(req->stats);
}

void make_convert(struct refusal *b, union request *req)
{
	static struct kvm_gmem_range ranges[2];
	int i;

	memset(req, 0, sizeof(*req));
	for (i = 0; i < 2; i++) {
		ranges[i].offset = PAGES(8 * i);
		ranges[i].size = PAGES(4);
		ranges[i].target = KVM_GMEM_TARGET_PRIVATE;
		ranges[i].reserved = 0;
	}
	req->convert.size = sizeof(req->convert);
	req->convert.nr_ranges = 2;
	req->convert.ranges = (unsigned long)ranges;
	req->convert.error_offset = POISON;
}

void make_attributes(struct refusal *b, union request *req)
{
	memset(req, 0, sizeof(*req));
	req->attributes.size = PAGES(4);
	req->attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
	req->attributes.error_offset = POISON;
}
