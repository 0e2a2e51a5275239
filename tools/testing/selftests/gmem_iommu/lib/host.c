// SPDX-License-Identifier: GPL-2.0
/*
 * The host's view of guest memory: accesses that may raise SIGBUS, long-term
 * pins, broken memory, and the physical page behind an address.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mm/gup_test.h"

#include "gmem_vm.h"
#include "host.h"

/* Where the handler goes on; set only around an access. */
struct sigbus_guard {
	sigjmp_buf env;
};

static __thread struct sigbus_guard *sigbus_guard;
static pthread_once_t sigbus_once = PTHREAD_ONCE_INIT;

static void sigbus_handler(int sig)
{
	if (!sigbus_guard) {
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(sigbus_guard->env, 1);
}

static void install_sigbus_handler(void)
{
	/* The handler leaves by siglongjmp(), which restores no signal mask. */
	struct sigaction sa = {
		.sa_handler = sigbus_handler,
		.sa_flags = SA_NODEFER,
	};

	sigaction(SIGBUS, &sa, NULL);
}

/* The compiler moves nothing out of the guarded access. */
static inline void compiler_barrier(void)
{
	asm volatile("" : : : "memory");
}

static int guarded_copy(void *dst, const void *src, size_t size)
{
	struct sigbus_guard guard;

	pthread_once(&sigbus_once, install_sigbus_handler);

	if (sigsetjmp(guard.env, 0)) {
		sigbus_guard = NULL;
		return -EFAULT;
	}
	sigbus_guard = &guard;
	compiler_barrier();
	memcpy(dst, src, size);
	compiler_barrier();
	sigbus_guard = NULL;
	return 0;
}

int host_read(void *dst, const void *src, size_t size)
{
	return guarded_copy(dst, src, size);
}

int host_write(void *dst, const void *src, size_t size)
{
	return guarded_copy(dst, src, size);
}

bool host_faults(const void *addr)
{
	char byte;

	return host_read(&byte, addr, 1) != 0;
}

ssize_t host_read_up_to_fault(void *dst, const void *src, size_t size)
{
	struct iovec to = { .iov_base = dst, .iov_len = size };
	struct iovec from = { .iov_base = (void *)src, .iov_len = size };
	ssize_t n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);

	if (n >= 0)
		return n;
	return errno == EFAULT ? 0 : -errno;
}

int host_pin(void *addr, size_t size)
{
	struct pin_longterm_test args = {
		.addr = (unsigned long)addr,
		.size = size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};
	int fd, ret;

	fd = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	if (ioctl(fd, PIN_LONGTERM_TEST_START, &args)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int host_hold(void *addr)
{
	struct iovec iov = { .iov_base = addr, .iov_len = GMEM_PAGE_SIZE };
	int fds[2];

	if (pipe(fds))
		return -errno;
	if (vmsplice(fds[1], &iov, 1, 0) != GMEM_PAGE_SIZE) {
		close(fds[0]);
		fds[0] = -EIO;
	}
	close(fds[1]);
	return fds[0];
}

int host_pfns(const void *addr, __u64 *pfns, size_t npages)
{
	const __u64 present = 1ULL << 63, pfn_mask = (1ULL << 55) - 1;
	off_t pos = (unsigned long)addr / GMEM_PAGE_SIZE * sizeof(*pfns);
	size_t size = npages * sizeof(*pfns), i;
	ssize_t n;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pread(fd, pfns, size, pos);
	close(fd);
	if (n < 0 || (size_t)n != size)
		return -EIO;

	for (i = 0; i < npages; i++)
		pfns[i] = pfns[i] & present ? pfns[i] & pfn_mask : 0;
	return 0;
}

/* Never returns; the exit status is an errno. */
static void break_page(void *addr)
{
	char byte;

	if (host_read(&byte, addr, 1) || host_write(addr, &byte, 1))
		_exit(EFAULT);
	_exit(madvise(addr, GMEM_PAGE_SIZE, MADV_HWPOISON) ? errno : 0);
}

int host_break(void *addr)
{
	int status;
	pid_t pid;

	/* Whoever breaks a page that it has mapped may be killed for it. */
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		break_page(addr);
	if (waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	/* EBUSY: the page is marked, but cannot be taken out of the file. */
	if (!WIFEXITED(status) || WEXITSTATUS(status) == EBUSY)
		return 0;
	return -WEXITSTATUS(status);
}

int host_break_pfn(__u64 pfn)
{
	char text[32];
	int fd, ret = 0;

	fd = open("/sys/kernel/debug/hwpoison/corrupt-pfn", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn);
	/* EBUSY as above. */
	if (write(fd, text, strlen(text)) < 0 && errno != EBUSY)
		ret = -errno;
	close(fd);
	return ret;
}
