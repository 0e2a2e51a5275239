// SPDX-License-Identifier: GPL-2.0
/*
 * GMEM_IOMMU_BIND: what is refused gets the documented errno and changes nothing.
 * Afterwards the state of the file, the runs, the generation and the number of
 * open files are what they were, and what the call asked for is still free (U7).
 * What is accepted needs no privilege (U1).
 *
 * A case is a correct request with a few fields spoiled, see struct poke.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/iommufd.h>

#include "lib/refusal_harness.h"

#define NOBODY		65534

/* GMEM_IOMMU_BIND */
FIXTURE(bind)
{
	struct refusal b;
};

FIXTURE_VARIANT(bind)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define BIND_SIZE	sizeof(struct gmem_iommu_bind)

FIXTURE_VARIANT_ADD(bind, exact) CASE(0);
FIXTURE_VARIANT_ADD(bind, U2_long_zero) CASE(0, POKE32(bind.size, BIND_SIZE + 8));
FIXTURE_VARIANT_ADD(bind, U2_long_tail)
	CASE(E2BIG, POKE32(bind.size, BIND_SIZE + 8), POKE_TAIL(gmem_iommu_bind));
FIXTURE_VARIANT_ADD(bind, U2_short) CASE(EINVAL, POKE32(bind.size, BIND_SIZE - 8));
FIXTURE_VARIANT_ADD(bind, U2_no_size) CASE(EINVAL, POKE32(bind.size, 0));
FIXTURE_VARIANT_ADD(bind, U2_reserved) CASE(EOPNOTSUPP, POKE32(bind.__reserved, 1));

FIXTURE_VARIANT_ADD(bind, M10_flags_read)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, M10_flags_write)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_WRITE | GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, flags_any_iova)
	CASE(0, POKE32(bind.flags, GMEM_IOMMU_BIND_READ), POKE64(bind.iova, POISON));
FIXTURE_VARIANT_ADD(bind, flags_no_prot)
	CASE(EINVAL, POKE32(bind.flags, GMEM_IOMMU_BIND_FIXED_IOVA));
FIXTURE_VARIANT_ADD(bind, flags_none) CASE(EINVAL, POKE32(bind.flags, 0));
FIXTURE_VARIANT_ADD(bind, flags_unknown) CASE(EOPNOTSUPP, POKE32(bind.flags, 0xf));
FIXTURE_VARIANT_ADD(bind, flags_high) CASE(EOPNOTSUPP, POKE32(bind.flags, 7 | 1U << 31));
FIXTURE_VARIANT_ADD(bind, M10_policy_all) CASE(EOPNOTSUPP, POKE32(bind.policy, 1));
FIXTURE_VARIANT_ADD(bind, M10_policy_high) CASE(EOPNOTSUPP, POKE32(bind.policy, ~0U));

FIXTURE_VARIANT_ADD(bind, gmem_negative) CASE(EBADF, POKE32(bind.gmem_fd, -1));
FIXTURE_VARIANT_ADD(bind, gmem_closed) CASE(EBADF, POKE_ID(bind.gmem_fd, FD_CLOSED));
FIXTURE_VARIANT_ADD(bind, gmem_pipe) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_PIPE));
FIXTURE_VARIANT_ADD(bind, gmem_memfd) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_MEMFD));
FIXTURE_VARIANT_ADD(bind, gmem_dir) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_DIR));
FIXTURE_VARIANT_ADD(bind, gmem_vm) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_VM));
FIXTURE_VARIANT_ADD(bind, gmem_iommufd) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_IOMMU));
FIXTURE_VARIANT_ADD(bind, gmem_device) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_DEVICE));
FIXTURE_VARIANT_ADD(bind, gmem_binding) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_BINDING));
FIXTURE_VARIANT_ADD(bind, gmem_plain) CASE(EINVAL, POKE_ID(bind.gmem_fd, FD_GMEM_PLAIN));

FIXTURE_VARIANT_ADD(bind, iommufd_negative) CASE(EBADF, POKE32(bind.iommufd, -1));
FIXTURE_VARIANT_ADD(bind, iommufd_closed) CASE(EBADF, POKE_ID(bind.iommufd, FD_CLOSED));
FIXTURE_VARIANT_ADD(bind, iommufd_pipe) CASE(EINVAL, POKE_ID(bind.iommufd, FD_PIPE));
FIXTURE_VARIANT_ADD(bind, iommufd_dir) CASE(EINVAL, POKE_ID(bind.iommufd, FD_DIR));
FIXTURE_VARIANT_ADD(bind, iommufd_gmem) CASE(EINVAL, POKE_ID(bind.iommufd, FD_GMEM));
FIXTURE_VARIANT_ADD(bind, iommufd_device) CASE(EINVAL, POKE_ID(bind.iommufd, FD_DEVICE));
FIXTURE_VARIANT_ADD(bind, iommufd_other) CASE(ENOENT, POKE_ID(bind.iommufd, FD_IOMMU));

FIXTURE_VARIANT_ADD(bind, ioas_zero) CASE(ENOENT, POKE32(bind.ioas_id, 0));
FIXTURE_VARIANT_ADD(bind, ioas_high) CASE(ENOENT, POKE32(bind.ioas_id, ~0U));
FIXTURE_VARIANT_ADD(bind, ioas_destroyed) CASE(ENOENT, POKE_ID(bind.ioas_id, ID_DESTROYED_IOAS));
FIXTURE_VARIANT_ADD(bind, ioas_fault_queue) CASE(ENOENT, POKE_ID(bind.ioas_id, ID_FAULT_QUEUE));

FIXTURE_VARIANT_ADD(bind, part)
	CASE(0, POKE64(bind.offset, PAGES(4)), POKE64(bind.length, PAGES(8)));
FIXTURE_VARIANT_ADD(bind, last_page)
	CASE(0, POKE64(bind.offset, PAGES(15)), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_unaligned)
	CASE(EINVAL, POKE64(bind.offset, 1), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_half_page)
	CASE(EINVAL, POKE64(bind.offset, 2048), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_at_end)
	CASE(EINVAL, POKE64(bind.offset, FILE_SIZE), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_far)
	CASE(EINVAL, POKE64(bind.offset, 1ULL << 62), POKE64(bind.length, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, offset_wraps)
	CASE(EOVERFLOW, POKE64(bind.offset, -PAGES(1)), POKE64(bind.length, PAGES(2)));
FIXTURE_VARIANT_ADD(bind, length_zero) CASE(EINVAL, POKE64(bind.length, 0));
FIXTURE_VARIANT_ADD(bind, length_one) CASE(EINVAL, POKE64(bind.length, 1));
FIXTURE_VARIANT_ADD(bind, length_unaligned) CASE(EINVAL, POKE64(bind.length, PAGES(1) + 1));
FIXTURE_VARIANT_ADD(bind, length_too_long) CASE(EINVAL, POKE64(bind.length, FILE_SIZE + PAGES(1)));
FIXTURE_VARIANT_ADD(bind, length_crosses_end) CASE(EINVAL, POKE64(bind.offset, PAGES(1)));
FIXTURE_VARIANT_ADD(bind, length_huge) CASE(EINVAL, POKE64(bind.length, 1ULL << 62));
FIXTURE_VARIANT_ADD(bind, length_wraps)
	CASE(EOVERFLOW, POKE64(bind.offset, PAGES(2)), POKE64(bind.length, -PAGES(1)));

FIXTURE_VARIANT_ADD(bind, iova_zero) CASE(0, POKE64(bind.iova, 0));
FIXTURE_VARIANT_ADD(bind, iova_unaligned) CASE(EINVAL, POKE64(bind.iova, IOVA + 1));
FIXTURE_VARIANT_ADD(bind, iova_half_page) CASE(EINVAL, POKE64(bind.iova, IOVA + 2048));
FIXTURE_VARIANT_ADD(bind, iova_wraps) CASE(EOVERFLOW, POKE64(bind.iova, -PAGES(1)));
FIXTURE_VARIANT_ADD(bind, iova_in_use) CASE(EEXIST, POKE64(bind.iova, IOAS_SCRATCH_IOVA));
FIXTURE_VARIANT_ADD(bind, iova_in_use_tail)
	CASE(EEXIST, POKE64(bind.iova, IOAS_SCRATCH_IOVA - PAGES(15)));

FIXTURE_VARIANT_ADD(bind, leaf_no_limit) CASE(0, POKE64(bind.max_leaf_size, 0));
FIXTURE_VARIANT_ADD(bind, leaf_2m) CASE(0, POKE64(bind.max_leaf_size, 1ULL << 21));
FIXTURE_VARIANT_ADD(bind, leaf_one) CASE(EINVAL, POKE64(bind.max_leaf_size, 1));
FIXTURE_VARIANT_ADD(bind, leaf_too_small) CASE(EINVAL, POKE64(bind.max_leaf_size, 2048));
FIXTURE_VARIANT_ADD(bind, leaf_odd) CASE(EINVAL, POKE64(bind.max_leaf_size, 4097));
FIXTURE_VARIANT_ADD(bind, leaf_three_pages) CASE(EINVAL, POKE64(bind.max_leaf_size, PAGES(3)));

FIXTURE_SETUP(bind)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(bind)
{
}

TEST_F(bind, U7_answers)
{
	struct refusal *b = &self->b;
	union request req;

	make_bind(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	refusal_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));

	if (!variant->err) {
		EXPECT_EQ(FD_CLOEXEC, fcntl(req.bind.out_fd, F_GETFD));
		EXPECT_EQ(0, req.bind.iova % GMEM_PAGE_SIZE);
		EXPECT_EQ(0, mirror_poll_dead(req.bind.out_fd));
		EXPECT_EQ(0, close(req.bind.out_fd));
	}

	refusal_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
	refusal_expect_same(_metadata, b);
}

/* IOVA that overlaps four pages which are in use. */
FIXTURE(overlap)
{
	struct refusal b;
};

FIXTURE_VARIANT(overlap)
{
	long first;
	size_t nr_pages;
};

FIXTURE_VARIANT_ADD(overlap, same) { 0, 4 };
FIXTURE_VARIANT_ADD(overlap, inside) { 1, 2 };
FIXTURE_VARIANT_ADD(overlap, around) { -2, 8 };
FIXTURE_VARIANT_ADD(overlap, head) { -1, 2 };
FIXTURE_VARIANT_ADD(overlap, tail) { 3, 2 };

FIXTURE_SETUP(overlap)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(overlap)
{
}

static void expect_overlap_refused(struct __test_metadata *_metadata,
				   struct refusal *b, long first, size_t nr_pages)
{
	refusal_remember(_metadata, b);
	EXPECT_EQ(-EEXIST, mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(nr_pages),
				       IOVA + first * (long)GMEM_PAGE_SIZE));
	refusal_expect_same(_metadata, b);
}

TEST_F(overlap, M9_with_mapping)
{
	struct refusal *b = &self->b;
	void *anon = map_pages(4);

	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, ioas_map(&b->ioas, IOVA, anon, PAGES(4)));
	expect_overlap_refused(_metadata, b, variant->first, variant->nr_pages);
	EXPECT_EQ(0, ioas_unmap(&b->ioas, IOVA, PAGES(4)));
	expect_bind_works(_metadata, b);
}

TEST_F(overlap, M9_with_binding)
{
	struct refusal *b = &self->b;
	int binding;

	binding = mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(4), IOVA);
	ASSERT_LE(0, binding);
	expect_overlap_refused(_metadata, b, variant->first, variant->nr_pages);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, b->before.page, 4));
	EXPECT_EQ(0, close(binding));
	expect_bind_works(_metadata, b);
}

/* The file is bound already, and the process is short of something. */
FIXTURE(bound)
{
	struct refusal b;
	int binding;
};

FIXTURE_SETUP(bound)
{
	self->binding = refusal_setup_bound(_metadata, &self->b);
}

FIXTURE_TEARDOWN(bound)
{
}

/* M1: the same range at other addresses of the same IOAS. */
TEST_F(bound, M1_bound_again)
{
	struct refusal *b = &self->b;
	union request req;

	make_bind(b, &req);
	req.bind.flags &= ~GMEM_IOMMU_BIND_FIXED_IOVA;
	ASSERT_EQ(0, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_TRUE(req.bind.iova + FILE_SIZE <= IOVA || req.bind.iova >= IOVA + FILE_SIZE);
	EXPECT_STREQ("", mirror_check_runs(req.bind.out_fd, 0, b->before.page, NR_PAGES));

	/* It really is there. */
	EXPECT_EQ(-EEXIST, mirror_bind(b->gmem_fd, &b->ioas, 0, PAGES(1), req.bind.iova));
	EXPECT_EQ(0, close(req.bind.out_fd));
	refusal_expect_same(_metadata, b);
}

TEST_F(bound, U7_no_iova_left)
{
	struct refusal *b = &self->b;
	struct iommu_iova_range range = { .start = PAGES(1), .last = PAGES(4) - 1 };
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow),
		.ioas_id = b->ioas.id,
		.num_iovas = 1,
		.allowed_iovas = (unsigned long)&range,
	};
	union request req;

	ASSERT_EQ(0, ioas_unmap(&b->ioas, IOAS_SCRATCH_IOVA, PAGES(1)));
	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, xioctl(b->ioas.iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	refusal_remember(_metadata, b);

	make_bind(b, &req);
	req.bind.flags &= ~GMEM_IOMMU_BIND_FIXED_IOVA;
	EXPECT_EQ(-ENOSPC, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	refusal_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

TEST_F(bound, U7_no_fd_left)
{
	struct refusal *b = &self->b;
	struct rlimit limit, none;
	union request req;
	int fd, ret;

	ASSERT_EQ(0, close(self->binding));
	refusal_remember(_metadata, b);
	make_bind(b, &req);

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	fd = dup(0);
	ASSERT_LE(0, fd);
	close(fd);
	none = limit;
	none.rlim_cur = fd;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	ret = xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));

	EXPECT_EQ(-EMFILE, ret);
	refusal_expect_same(_metadata, b);
	expect_bind_works(_metadata, b);
}

/*
 * A guest_memfd keeps its VM, so a file without a VM cannot be bound: there is
 * none. ENODEV is for a listener that comes when the last file is closed; BIND
 * holds the file while it registers, and never sees it.
 */
TEST_F(bound, M14_U7_vm_closed)
{
	struct refusal *b = &self->b;

	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, close(b->vm_fd));
	refusal_remember(_metadata, b);
	expect_bind_works(_metadata, b);
	EXPECT_EQ(0, gmem_convert(b->gmem_fd, 0, PAGES(2), KVM_GMEM_TARGET_PRIVATE, NULL));
	EXPECT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	EXPECT_EQ(PAGE_PRIVATE, b->before.page[0]);
	expect_bind_works(_metadata, b);
}

/* M11: the memory that a binding would have needed is not left behind either. */
TEST_F(bound, M11_refused_bind_allocates_nothing)
{
	struct refusal *b = &self->b;
	union request req;
	__u8 *mem;
	int fd;

	fd = gmem_create_fd(b->vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	ASSERT_LE(0, fd);
	mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));

	make_bind(b, &req);
	req.bind.gmem_fd = fd;
	EXPECT_EQ(-EEXIST, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));
	req.bind.ioas_id = ~0U;
	EXPECT_EQ(-ENOENT, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(0, gmem_nr_resident(mem, NR_PAGES));

	/* The means of this test tell a binding that does. */
	make_bind(b, &req);
	req.bind.gmem_fd = fd;
	req.bind.iova = IOVA + FILE_SIZE;
	EXPECT_EQ(0, xioctl(b->dev_fd, GMEM_IOMMU_BIND, &req));
	EXPECT_EQ(NR_PAGES, gmem_nr_resident(mem, NR_PAGES));
}

/*
 * U1: a process that has nothing but two file descriptors that were sent to it.
 */
static void send_fds(struct __test_metadata *_metadata, int sock,
		     const int *fds, size_t size)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {};
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(cmsg), fds, size);
	ASSERT_EQ(1, sendmsg(sock, &msg, 0));
}

static bool receive_fds(int sock, int *fds, size_t size)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {}, byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *cmsg;

	if (recvmsg(sock, &msg, 0) != 1)
		return false;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(size))
		return false;
	memcpy(fds, CMSG_DATA(cmsg), size);
	return true;
}

/* No user, no groups, no capabilities, no locked memory, no inherited files. */
static bool drop_everything(int sock)
{
	struct rlimit none = { 0, 0 };

	return dup2(sock, 3) == 3 && !close_range(4, ~0U, 0) &&
	       !setrlimit(RLIMIT_MEMLOCK, &none) && !setgroups(0, NULL) &&
	       !setresgid(NOBODY, NOBODY, NOBODY) &&
	       !setresuid(NOBODY, NOBODY, NOBODY);
}

/* Returns 0 or the number of the step that failed. */
static int be_unprivileged(int sock, struct refusal *b)
{
	struct ioas ioas = { .id = b->ioas.id };
	struct gmem_state state;
	int fds[2], binding;
	__u8 *mem;

	if (!drop_everything(sock))
		return 1;
	if (!receive_fds(3, fds, sizeof(fds)))
		return 2;
	ioas.iommufd = fds[1];

	binding = mirror_bind(fds[0], &ioas, 0, FILE_SIZE, IOVA);
	if (binding < 0)
		return 3;
	mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (mem == MAP_FAILED)
		return 4;
	if (gmem_convert(fds[0], 0, PAGES(2), KVM_GMEM_TARGET_PRIVATE, NULL))
		return 5;
	if (gmem_set_attributes2(fds[0], PAGES(4), PAGES(2), 0, NULL))
		return 6;
	if (*gmem_state_read(&state, binding, mem, NR_PAGES))
		return 7;
	if (state.page[0] != PAGE_PRIVATE || state.page[4] != PAGE_SHARED)
		return 8;
	return close(binding) ? 9 : 0;
}

TEST_F(bound, U1_unprivileged)
{
	struct refusal *b = &self->b;
	const int fds[] = { b->gmem_fd, b->ioas.iommufd };
	int socks[2], status;
	pid_t child;

	if (getuid())
		SKIP(return, "needs root, to become nobody");
	ASSERT_EQ(0, close(self->binding));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(be_unprivileged(socks[1], b));

	send_fds(_metadata, socks[0], fds, sizeof(fds));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("failed at this step");
	refusal_remember(_metadata, b);
	expect_bind_works(_metadata, b);
}

TEST_HARNESS_MAIN
