// SPDX-License-Identifier: GPL-2.0
/*
 * A sweep: every allocation of a call fails once.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include "kselftest.h"
#include "sweep.h"

#define MAX_NTH		2000

static char why[384];

/* The reason, as a text of our own: others overwrite theirs. */
static __printf(1, 2) const char *because(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return why;
}

static bool may_answer(const struct sweep_call *call, int ret)
{
	return ret == -ENOMEM ||
	       (call->iommufd && (ret == -ENOENT || ret == -EINVAL));
}

static int prepare_call(struct rig *rig, const struct sweep_call *call)
{
	return call->prepare ? call->prepare(rig) : 0;
}

static long count_resident(struct rig *rig)
{
	return gmem_nr_resident(rig->vm.mem, rig_npages(rig));
}

static bool is_countable(struct rig *rig)
{
	return rig_npages(rig) <= GMEM_STATE_MAX_PAGES;
}

/* State, contents, memory and open files are those before the sweep. */
static const char *check_same(struct sweep *sweep, struct rig *rig, int nr_fds)
{
	static struct gmem_state now;
	const char *wrong;
	long page;

	if (is_countable(rig) && count_resident(rig) != sweep->nr_resident)
		return because("%ld pages have memory, not %ld",
			       count_resident(rig), sweep->nr_resident);
	wrong = rig_read_state(rig, &now);
	if (*wrong)
		return because("%s", wrong);
	page = gmem_state_diff(&sweep->before, &now);
	if (page >= 0)
		return because("page %zu changed", rig->watched[page]);
	if (count_open_fds() != nr_fds)
		return because("%d open files, not %d", count_open_fds(), nr_fds);
	return "";
}

/*
 * What an attempt has left behind can spare the next one an allocation, which would
 * then not be swept: leaves of the IOMMU and mappings of the guest that were split.
 * A call that succeeds, and its undoing, bring them back.
 */
static const char *finish_call(struct rig *rig, const struct sweep_call *call)
{
	int ret;

	if (call->leaves_nothing ||
	    (!rig_has_large_leaves(rig) && !rig->config.huge_size))
		return "";
	ret = prepare_call(rig, call) ?: call->run(rig);
	if (ret)
		return because("%d when nothing fails any more", ret);
	call->undo(rig);
	return "";
}

static const char *check_failure(struct rig *rig, const struct sweep_call *call,
				 const struct rig_view *before, int ret,
				 bool failed)
{
	const char *wrong;

	if (!may_answer(call, ret) || !failed)
		return because("the answer is %d", ret);
	wrong = rig_view_changed(rig, before, call->may_keep);
	if (*wrong)
		return because("%s", wrong);
	ret = call->recover ? call->recover(rig) : 0;
	return ret ? because("%d in the recovery", ret) : "";
}

/* @failed: whether the call has as many as @nth allocations. */
static const char *sweep_one(struct sweep *sweep, struct rig *rig,
			     const struct sweep_call *call, unsigned int nth,
			     int nr_fds, bool *failed)
{
	static struct rig_view before;
	const char *wrong;
	int ret;

	ret = prepare_call(rig, call);
	if (ret)
		return because("%d in the preparation", ret);
	rig_map_in_guest(rig);
	wrong = rig_look(rig, &before);
	if (*wrong)
		return wrong;

	if (!fault_arm(&rig->fault, nth))
		return "cannot be armed";
	ret = call->run(rig);
	*failed = fault_disarm(&rig->fault);
	if (!ret) {
		call->undo(rig);
		return check_same(sweep, rig, nr_fds);
	}
	wrong = check_failure(rig, call, &before, ret, *failed);
	if (!*wrong)
		wrong = check_same(sweep, rig, nr_fds);
	return *wrong ? wrong : finish_call(rig, call);
}

/* Once without: what comes into being at the first call is not a change. */
static const char *sweep_begin(struct sweep *sweep, struct rig *rig,
			       const struct sweep_call *call)
{
	int ret;

	ret = prepare_call(rig, call) ?: call->run(rig);
	if (ret)
		return because("%d when nothing fails", ret);
	call->undo(rig);
	if (is_countable(rig)) {
		sweep->nr_resident = count_resident(rig);
		if (sweep->nr_resident < 0)
			return because("%ld by mincore", sweep->nr_resident);
	}
	return rig_read_state(rig, &sweep->before);
}

const char *sweep_call(struct sweep *sweep, struct rig *rig,
		       const struct sweep_call *call)
{
	bool failed = true;
	const char *wrong;
	unsigned int nth;
	int nr_fds;

	wrong = sweep_begin(sweep, rig, call);
	if (*wrong)
		return wrong;
	nr_fds = count_open_fds();

	for (nth = 1; failed && nth < MAX_NTH; nth++) {
		wrong = sweep_one(sweep, rig, call, nth, nr_fds, &failed);
		if (*wrong) {
			char buf[sizeof(why)];

			snprintf(buf, sizeof(buf), "%s", wrong);
			return because("allocation %u: %.300s", nth, buf);
		}
	}
	sweep->nr = nth - 2;
	if (failed)
		return "it has more allocations than are tried";
	if (sweep->nr < call->min)
		return because("only %u allocations", sweep->nr);
	return "";
}
