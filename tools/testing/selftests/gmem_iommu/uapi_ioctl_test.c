// SPDX-License-Identifier: GPL-2.0
/*
 * All ioctls alike: a request at a bad address, and numbers that an object does not
 * know (U7).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/iommufd.h>

#include "lib/refusal_harness.h"

/* The request itself at a bad address. */
FIXTURE(pointer)
{
	struct refusal b;
};

FIXTURE_VARIANT(pointer)
{
	enum kind fd;
	unsigned long cmd;
	void (*make)(struct refusal *b, union request *req);
};

FIXTURE_VARIANT_ADD(pointer, info) { FD_DEVICE, GMEM_IOMMU_GET_INFO, make_info };
FIXTURE_VARIANT_ADD(pointer, bind) { FD_DEVICE, GMEM_IOMMU_BIND, make_bind };
FIXTURE_VARIANT_ADD(pointer, query) { FD_BINDING, GMEM_IOMMU_QUERY_RUNS, make_query };
FIXTURE_VARIANT_ADD(pointer, stats) { FD_BINDING, GMEM_IOMMU_GET_STATS, make_stats };
FIXTURE_VARIANT_ADD(pointer, convert) { FD_GMEM, KVM_GMEM_CONVERT, make_convert };
FIXTURE_VARIANT_ADD(pointer, attributes) { FD_GMEM, KVM_SET_MEMORY_ATTRIBUTES2, make_attributes };

FIXTURE_SETUP(pointer)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(pointer)
{
}

TEST_F(pointer, U7_unreadable)
{
	struct refusal *b = &self->b;
	void *unreadable = b->pages + PAGES(1);
	void *split = unreadable - 2 * sizeof(__u64);
	int fd = make_fd(b, variant->fd);
	union request req;

	variant->make(b, &req);
	memcpy(split, &req, 2 * sizeof(__u64));
	refusal_remember(_metadata, b);
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, NULL));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, (void *)KERNEL_ADDRESS));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, unreadable));
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, split));
	refusal_expect_same(_metadata, b);
}

/* The answer cannot be delivered, so nothing may have been done. */
TEST_F(pointer, U7_unwritable)
{
	struct refusal *b = &self->b;
	int fd = make_fd(b, variant->fd);
	union request req;

	variant->make(b, &req);
	memcpy(b->readonly, &req, PAGES(1));
	ASSERT_EQ(0, mprotect(b->readonly, PAGES(1), PROT_READ));
	refusal_remember(_metadata, b);
	EXPECT_EQ(-EFAULT, xioctl(fd, variant->cmd, b->readonly));
	refusal_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

/* Numbers that an object does not know, those of the other objects included. */
FIXTURE(unknown)
{
	struct refusal b;
};

FIXTURE_VARIANT(unknown)
{
	enum kind fd;
	unsigned long known[2];
};

FIXTURE_VARIANT_ADD(unknown, device)
{
	.fd = FD_DEVICE,
	.known = { GMEM_IOMMU_GET_INFO, GMEM_IOMMU_BIND },
};

FIXTURE_VARIANT_ADD(unknown, binding)
{
	.fd = FD_BINDING,
	.known = { GMEM_IOMMU_QUERY_RUNS, GMEM_IOMMU_GET_STATS },
};

FIXTURE_VARIANT_ADD(unknown, gmem)
{
	.fd = FD_GMEM,
	.known = { KVM_GMEM_CONVERT, KVM_SET_MEMORY_ATTRIBUTES2 },
};

FIXTURE_SETUP(unknown)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(unknown)
{
}

TEST_F(unknown, U7_enotty)
{
	static const unsigned long cmds[] = {
		GMEM_IOMMU_GET_INFO, GMEM_IOMMU_BIND, GMEM_IOMMU_QUERY_RUNS,
		GMEM_IOMMU_GET_STATS, KVM_GMEM_CONVERT,
		KVM_SET_MEMORY_ATTRIBUTES2, KVM_SET_MEMORY_ATTRIBUTES,
		KVM_GET_API_VERSION, IOMMU_IOAS_ALLOC,
		_IO(GMEM_IOMMU_TYPE, 0x4f), _IO(GMEM_IOMMU_TYPE, 0x5f),
		_IOWR(GMEM_IOMMU_TYPE, 0x41, __u64[8]),
		_IOWR(GMEM_IOMMU_TYPE, 0x42, __u64[8]),
	};
	struct refusal *b = &self->b;
	int fd = make_fd(b, variant->fd);
	union request req;
	size_t i;

	refusal_remember(_metadata, b);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		if (cmds[i] == variant->known[0] || cmds[i] == variant->known[1])
			continue;
		make_info(b, &req);
		EXPECT_EQ(-ENOTTY, xioctl(fd, cmds[i], &req))
			TH_LOG("ioctl %#lx", cmds[i]);
	}
	refusal_expect_same(_metadata, b);
}

TEST_HARNESS_MAIN
