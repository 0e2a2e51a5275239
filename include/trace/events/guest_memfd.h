/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM guest_memfd

#if !defined(_TRACE_GUEST_MEMFD_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_GUEST_MEMFD_H

#include <linux/fs.h>
#include <linux/guest_memfd.h>
#include <linux/tracepoint.h>

/* First and last run stand for the request: it can have many. */
DECLARE_EVENT_CLASS(gmem_convert,
		    TP_PROTO(const struct inode *inode, const struct gmem_event *event),
		    TP_ARGS(inode, event),

		    TP_STRUCT__entry(__field(u64, ino)
				     __field(unsigned long, nr_runs)
				     __field(pgoff_t, start)
				     __field(pgoff_t, last)
				     __field(bool, shared)),

		    TP_fast_assign(__entry->ino = inode->i_ino;
				   __entry->nr_runs = event->nr_runs;
				   __entry->start = event->runs[0].start;
				   __entry->last = event->runs[event->nr_runs - 1].last;
				   __entry->shared = event->runs[0].shared;),

		    TP_printk("ino %llu runs %lu pages 0x%lx-0x%lx first %s",
			      __entry->ino, __entry->nr_runs, __entry->start, __entry->last,
			      __entry->shared ? "to-shared" : "to-private"));

DEFINE_EVENT(gmem_convert, gmem_convert_begin,
	     TP_PROTO(const struct inode *inode, const struct gmem_event *event),
	     TP_ARGS(inode, event));

/* The point of no return: between this and gmem_convert_commit nothing fails or allocates. */
DEFINE_EVENT(gmem_convert, gmem_convert_decided,
	     TP_PROTO(const struct inode *inode, const struct gmem_event *event),
	     TP_ARGS(inode, event));

DEFINE_EVENT(gmem_convert, gmem_convert_commit,
	     TP_PROTO(const struct inode *inode, const struct gmem_event *event),
	     TP_ARGS(inode, event));

TRACE_EVENT(gmem_convert_abort,
	    TP_PROTO(const struct inode *inode, pgoff_t index, int result),
	    TP_ARGS(inode, index, result),

	    TP_STRUCT__entry(__field(u64, ino)
			     __field(pgoff_t, index)
			     __field(int, result)),

	    TP_fast_assign(__entry->ino = inode->i_ino;
			   __entry->index = index;
			   __entry->result = result;),

	    TP_printk("ino %llu page 0x%lx result %d", __entry->ino,
		      __entry->index, __entry->result));

#endif /* _TRACE_GUEST_MEMFD_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
