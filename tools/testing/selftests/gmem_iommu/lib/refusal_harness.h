/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test does with its refusal. Here and not in refusal.c, because a failed
 * assertion ends the test.
 */
#ifndef SELFTESTS_GMEM_IOMMU_REFUSAL_HARNESS_H
#define SELFTESTS_GMEM_IOMMU_REFUSAL_HARNESS_H

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"
#include "host.h"
#include "mirror.h"
#include "refusal.h"
#include "walker.h"

/* Asked once, not by each of hundreds of tests. */
static const char *no_gmem, *no_mirror;

static __attribute__((constructor)) void find_missing(void)
{
	no_gmem = gmem_vm_missing();
	no_mirror = mirror_missing();
}

/* Contents in every page, and pages 4 to 7 private. */
static inline void refusal_fill(struct __test_metadata *_metadata, struct refusal *b)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;

	for (i = 0; i < NR_PAGES; i++) {
		gmem_pattern(page, PAGES(i), 1);
		ASSERT_EQ(0, host_write(b->mem + PAGES(i), page, sizeof(page)));
	}
	ASSERT_EQ(0, gmem_convert(b->gmem_fd, PAGES(4), PAGES(4),
				  KVM_GMEM_TARGET_PRIVATE, NULL));
}

static inline void refusal_open_mirror(struct __test_metadata *_metadata,
				       struct refusal *b)
{
	b->dev_fd = open("/dev/gmem_iommu", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, b->dev_fd);
	ASSERT_EQ(0, ioas_open(&b->ioas));
	ASSERT_EQ(0, ioas_open_in(&b->witness_ioas, b->ioas.iommufd));
	b->witness = mirror_bind(b->gmem_fd, &b->witness_ioas, 0, FILE_SIZE,
				 IOVA);
	ASSERT_LE(0, b->witness);
}

/* The conversion ioctls can be tested without the module. */
static inline void refusal_setup(struct __test_metadata *_metadata, struct refusal *b,
				 bool need_mirror)
{
	if (no_gmem)
		SKIP(return, "%s", no_gmem);
	if (need_mirror && no_mirror)
		SKIP(return, "%s", no_mirror);

	b->vm_fd = gmem_create_vm_fd(KVM_X86_SW_PROTECTED_VM);
	ASSERT_LE(0, b->vm_fd);
	b->gmem_fd = gmem_create_fd(b->vm_fd, FILE_SIZE, GMEM_VM_SHARED);
	ASSERT_LE(0, b->gmem_fd);
	b->mem = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      b->gmem_fd, 0);
	ASSERT_NE(MAP_FAILED, b->mem);
	refusal_fill(_metadata, b);

	b->pages = map_pages(2);
	ASSERT_NE(MAP_FAILED, b->pages);
	ASSERT_EQ(0, mprotect(b->pages + PAGES(1), PAGES(1), PROT_NONE));
	b->readonly = map_pages(1);
	ASSERT_NE(MAP_FAILED, b->readonly);

	b->dev_fd = -1;
	b->ioas.iommufd = -1;
	b->witness = -1;
	if (!no_mirror)
		refusal_open_mirror(_metadata, b);
}

static inline void refusal_remember(struct __test_metadata *_metadata, struct refusal *b)
{
	ASSERT_STREQ("", gmem_state_read(&b->before, b->witness, b->mem, NR_PAGES));
	b->nr_fds = count_open_fds();
}

/* The same with the file bound at IOVA, or -1 if there is nothing to bind with. */
static inline int refusal_setup_bound(struct __test_metadata *_metadata,
				      struct refusal *b)
{
	int binding;

	refusal_setup(_metadata, b, true);
	if (_metadata->exit_code)
		return -1;
	binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	EXPECT_LE(0, binding);
	refusal_remember(_metadata, b);
	return binding;
}

static inline void refusal_expect_same(struct __test_metadata *_metadata,
				       struct refusal *b)
{
	struct gmem_state now;

	EXPECT_EQ(b->nr_fds, count_open_fds());
	EXPECT_STREQ("", gmem_state_read(&now, b->witness, b->mem, NR_PAGES));
	EXPECT_EQ(-1, gmem_state_diff(&b->before, &now));
	EXPECT_EQ(b->before.generation, now.generation);
}

static inline __u64 make_value(struct __test_metadata *_metadata, struct refusal *b,
			       const struct poke *poke)
{
	int fd;

	switch (poke->kind) {
	case AS_IS:
		return poke->value;
	case PTR_UNREADABLE:
		return (unsigned long)b->pages + PAGES(1);
	case PTR_SPLIT:
		return (unsigned long)b->pages + PAGES(1) - sizeof(__u64);
	case PTR_READONLY:
		EXPECT_EQ(0, mprotect(b->readonly, PAGES(1), PROT_READ));
		return (unsigned long)b->readonly;
	default:
		fd = make_fd(b, poke->kind);
		EXPECT_LE(0, fd);
		return fd;
	}
}

static inline void spoil(struct __test_metadata *_metadata, struct refusal *b,
			 void *request, const struct poke *poke)
{
	int i;

	for (i = 0; i < MAX_POKES && poke[i].width; i++) {
		__u64 value = make_value(_metadata, b, &poke[i]);

		memcpy(request + poke[i].at, &value, poke[i].width);
	}
}

/* Whatever was refused before, a correct BIND works, and mirrors the file. */
static inline void expect_bind_works(struct __test_metadata *_metadata,
				     struct refusal *b)
{
	int binding;

	binding = mirror_bind(b->gmem_fd, &b->ioas, 0, FILE_SIZE, IOVA);
	ASSERT_LE(0, binding);
	EXPECT_STREQ("", mirror_check_runs(binding, 0, b->before.page, NR_PAGES));
	EXPECT_EQ(0, close(binding));
}

#endif /* SELFTESTS_GMEM_IOMMU_REFUSAL_HARNESS_H */
