// SPDX-License-Identifier: GPL-2.0
/*
 * Gives the kernel's own tests the time that a debug kernel under emulation needs.
 *
 * kselftest_harness.h ends each test after 30 seconds, a constant. Linked with --wrap=poll,
 * this makes that one wait longer; the runner's limit per program still holds.
 */
#include <poll.h>

#define HARNESS_TIMEOUT_MS 30000

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return __real_poll(fds, n, timeout == HARNESS_TIMEOUT_MS ? 10 * timeout : timeout);
}
