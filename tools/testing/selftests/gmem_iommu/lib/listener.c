// SPDX-License-Identifier: GPL-2.0
/*
 * Listeners of a guest_memfd, by the module gmem_listener_test, and what they
 * heard as text.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gmem_vm.h"
#include "listener.h"
#include "xioctl.h"

#define MODULE		"gmem_listener_test"
#define NODE		"/dev/gmem_listener_test"
#define MAX_LISTENERS	8
#define MAX_RECORDS	64
#define WAIT_US		1000
#define WAIT_TRIES	60000

int listener_load(void)
{
	return system("modprobe -q " MODULE) ? -ENOENT : 0;
}

int listener_unload(void)
{
	return syscall(SYS_delete_module, MODULE, O_NONBLOCK) ? -errno : 0;
}

const char *listener_missing(void)
{
	if (access(NODE, R_OK))
		listener_load();
	if (access(NODE, R_OK))
		return "no " NODE " (CONFIG_KVM_GMEM_LISTENER_TEST)";
	return gmem_vm_missing();
}

int listener_open(int gmem_fd, size_t first, size_t npages)
{
	struct gmem_listener_test_register args = {
		.gmem_fd = gmem_fd,
		.offset = first * GMEM_PAGE_SIZE,
		.length = npages * GMEM_PAGE_SIZE,
	};
	int fd, ret;

	fd = open(NODE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = xioctl(fd, GMEM_LISTENER_TEST_REGISTER, &args);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

const char *listener_env_missing(void)
{
	return listener_missing() ?: env_missing(1);
}

int listener_open_both(struct env *env, int l[2])
{
	int ret;

	l[0] = listener_open(env->vm.gmem_fd, 0, env->npages);
	ret = l[0] < 0 ? l[0] : env_bind(env);
	l[1] = ret ? -1 : listener_open(env->vm.gmem_fd, 0, env->npages);
	return ret ?: l[1] < 0 ? l[1] : 0;
}

void listener_close_both(const int l[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		listener_hold(l[i], 0);
		close(l[i]);
	}
}

int listener_refuse(int listener, int err, __u32 reasons, size_t page)
{
	struct gmem_listener_test_behave args = {
		.refuse_errno = err,
		.refuse_reasons = reasons,
		.refuse_offset = page * GMEM_PAGE_SIZE,
	};

	return xioctl(listener, GMEM_LISTENER_TEST_BEHAVE, &args);
}

int listener_hold(int listener, __u32 phases)
{
	struct gmem_listener_test_behave args = { .hold_phases = phases };

	return xioctl(listener, GMEM_LISTENER_TEST_BEHAVE, &args);
}

int listener_let_go(int listener)
{
	return xioctl(listener, GMEM_LISTENER_TEST_LET_GO, NULL);
}

int listener_sleep(int listener, unsigned int ms)
{
	struct gmem_listener_test_behave args = { .sleep_ms = ms };

	return xioctl(listener, GMEM_LISTENER_TEST_BEHAVE, &args);
}

int listener_set_idle(int listener)
{
	struct gmem_listener_test_behave args = { .idle = 1 };

	return xioctl(listener, GMEM_LISTENER_TEST_BEHAVE, &args);
}

int listener_touch(int listener, unsigned int us)
{
	struct gmem_listener_test_behave args = { .touch_us = us };

	return xioctl(listener, GMEM_LISTENER_TEST_BEHAVE, &args);
}

int listener_fill(int listener)
{
	return xioctl(listener, GMEM_LISTENER_TEST_FILL, NULL);
}

int listener_read(int listener, struct gmem_listener_test_record *records,
		  size_t max)
{
	ssize_t n;

	n = read(listener, records, max * sizeof(*records));
	return n < 0 ? -errno : n / sizeof(*records);
}

void listener_forget(int listener)
{
	struct gmem_listener_test_record record;

	while (listener_read(listener, &record, 1) > 0)
		;
}

int listener_wait(int listener, struct gmem_listener_test_record *record)
{
	int ret, i;

	for (i = 0; i < WAIT_TRIES; i++) {
		ret = listener_read(listener, record, 1);
		if (ret)
			return ret < 0 ? ret : 0;
		usleep(WAIT_US);
	}
	return -ETIMEDOUT;
}

/* Text that grows up to the end of its buffer. */
struct text {
	char buf[8192];
	size_t len;
};

static void add(struct text *text, const char *format, ...)
{
	size_t room = sizeof(text->buf) - text->len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->buf + text->len, room, format, args);
	va_end(args);
	if (n > 0)
		text->len += (size_t)n < room ? (size_t)n : room - 1;
}

static const char *phase_name(const struct gmem_listener_test_record *record)
{
	static const char * const names[] = {
		"prepare", "abort", "invalidate", "populate",
	};

	if (record->result)
		return "refuse";
	return record->phase < 4 ? names[record->phase] : "?";
}

static const char *reason_name(__u32 reason)
{
	static const char * const names[] = {
		"convert", "truncate", "memory_failure", "populate",
		"memslot_create", "memslot_delete", "release",
	};

	return reason < 7 ? names[reason] : "?";
}

static void add_run(struct text *text, const struct gmem_listener_test_run *run)
{
	const char *memory = "none";

	add(text, " %c%llu-%llu", run->shared ? '+' : '-', run->start,
	    run->last);
	if (run->is_shared == ~0U)
		return;
	if (run->memory & GMEM_LISTENER_TEST_MEMORY)
		memory = "memory";
	else if (run->memory & GMEM_LISTENER_TEST_PENDING)
		memory = "pending";
	add(text, " (%s, %s)", run->is_shared ? "shared" : "private", memory);
}

const char *listener_log(int listener)
{
	static __thread struct text text;
	struct gmem_listener_test_record record;
	__u64 i;

	text.len = 0;
	text.buf[0] = '\0';
	while (listener_read(listener, &record, 1) > 0) {
		if (record.lost)
			add(&text, "%u calls lost\n", record.lost);
		add(&text, "%s %s", phase_name(&record),
		    reason_name(record.reason));
		for (i = 0; i < record.nr_runs; i++) {
			if (i == GMEM_LISTENER_TEST_MAX_RUNS) {
				add(&text, " ...");
				break;
			}
			add_run(&text, &record.runs[i]);
		}
		add(&text, "\n");
	}
	return text.buf;
}

const char *listener_order(const int *listeners, int nr)
{
	static __thread struct gmem_listener_test_record logs[MAX_LISTENERS][MAX_RECORDS];
	static __thread struct text text;
	int n[MAX_LISTENERS], next[MAX_LISTENERS] = {};
	int i, first;

	text.len = 0;
	text.buf[0] = '\0';
	for (i = 0; i < nr && i < MAX_LISTENERS; i++)
		n[i] = listener_read(listeners[i], logs[i], MAX_RECORDS);

	for (;;) {
		first = -1;
		for (i = 0; i < nr && i < MAX_LISTENERS; i++) {
			if (next[i] >= n[i])
				continue;
			if (first < 0 || logs[i][next[i]].seq <
					 logs[first][next[first]].seq)
				first = i;
		}
		if (first < 0)
			return text.buf;
		add(&text, "%d:%s ", first + 1,
		    phase_name(&logs[first][next[first]++]));
	}
}
