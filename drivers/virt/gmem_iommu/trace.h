/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmem_iommu

#if !defined(_GMEM_IOMMU_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GMEM_IOMMU_TRACE_H

#include <linux/tracepoint.h>

#include "gmem_iommu.h"

TRACE_DEFINE_ENUM(GMEM_CONVERT);
TRACE_DEFINE_ENUM(GMEM_TRUNCATE);
TRACE_DEFINE_ENUM(GMEM_MEMORY_FAILURE);
TRACE_DEFINE_ENUM(GMEM_POPULATE);
TRACE_DEFINE_ENUM(GMEM_MEMSLOT_CREATE);
TRACE_DEFINE_ENUM(GMEM_MEMSLOT_DELETE);
TRACE_DEFINE_ENUM(GMEM_RELEASE);

#define show_gmem_reason(reason)				\
	__print_symbolic(reason,				\
			 { GMEM_CONVERT, "convert" },		\
			 { GMEM_TRUNCATE, "truncate" },		\
			 { GMEM_MEMORY_FAILURE, "memory-failure" }, \
			 { GMEM_POPULATE, "populate" },		\
			 { GMEM_MEMSLOT_CREATE, "memslot-create" }, \
			 { GMEM_MEMSLOT_DELETE, "memslot-delete" }, \
			 { GMEM_RELEASE, "release" })

DECLARE_EVENT_CLASS(gmem_iommu_binding,
		    TP_PROTO(const struct gmem_binding *b),
		    TP_ARGS(b),

		    TP_STRUCT__entry(__field(u64, ino)
				     __field(pgoff_t, start)
				     __field(pgoff_t, last)
				     __field(unsigned long, iova)),

		    TP_fast_assign(__entry->ino = b->inode->i_ino;
				   __entry->start = b->listener.start;
				   __entry->last = b->listener.last;
				   __entry->iova = b->iova;),

		    TP_printk("ino %llu pages 0x%lx-0x%lx iova 0x%lx", __entry->ino,
			      __entry->start, __entry->last, __entry->iova));

DEFINE_EVENT(gmem_iommu_binding, gmem_iommu_bind,
	     TP_PROTO(const struct gmem_binding *b),
	     TP_ARGS(b));

DEFINE_EVENT(gmem_iommu_binding, gmem_iommu_unbind,
	     TP_PROTO(const struct gmem_binding *b),
	     TP_ARGS(b));

/* What pages were, and are, that are unmapped for a reason. */
#define show_gmem_unmap(reason)					\
	__print_symbolic(reason,				\
			 { GMEM_CONVERT, "shared->private" },	\
			 { GMEM_TRUNCATE, "present->hole" },	\
			 { GMEM_MEMORY_FAILURE, "present->broken" }, \
			 { GMEM_MEMSLOT_DELETE, "present->gone" }, \
			 { GMEM_RELEASE, "present->released" })

#define show_gmem_map(reason)					\
	__print_symbolic(reason,				\
			 { GMEM_CONVERT, "private->shared" },	\
			 { GMEM_POPULATE, "hole->present" },	\
			 { GMEM_MEMSLOT_CREATE, "gone->present" })

/* First and last run of the event stand for the request: it can have many. */
DECLARE_EVENT_CLASS(gmem_iommu_update,
		    TP_PROTO(const struct gmem_binding *b, const struct gmem_event *event,
			     unsigned long nr, int result, u64 duration_ns),
		    TP_ARGS(b, event, nr, result, duration_ns),

		    TP_STRUCT__entry(__field(u64, ino)
				     __field(int, reason)
				     __field(pgoff_t, start)
				     __field(pgoff_t, last)
				     __field(unsigned long, iova)
				     __field(unsigned long, nr)
				     __field(int, result)
				     __field(u64, duration_ns)),

		    TP_fast_assign(__entry->ino = b->inode->i_ino;
				   __entry->reason = event->reason;
				   __entry->start = event->runs[0].start;
				   __entry->last = event->runs[event->nr_runs - 1].last;
				   __entry->iova = b->iova;
				   __entry->nr = nr;
				   __entry->result = result;
				   __entry->duration_ns = duration_ns;),

		    TP_printk("ino %llu %s pages 0x%lx-0x%lx of binding iova 0x%lx: %lu pages %s, result %d in %llu ns",
			      __entry->ino, show_gmem_reason(__entry->reason),
			      __entry->start, __entry->last, __entry->iova,
			      __entry->nr, show_gmem_map(__entry->reason),
			      __entry->result, __entry->duration_ns));

DEFINE_EVENT(gmem_iommu_update, gmem_iommu_map,
	     TP_PROTO(const struct gmem_binding *b, const struct gmem_event *event,
		      unsigned long nr, int result, u64 duration_ns),
	     TP_ARGS(b, event, nr, result, duration_ns));

DEFINE_EVENT_PRINT(gmem_iommu_update, gmem_iommu_unmap,
		   TP_PROTO(const struct gmem_binding *b, const struct gmem_event *event,
			    unsigned long nr, int result, u64 duration_ns),
		   TP_ARGS(b, event, nr, result, duration_ns),
		   TP_printk("ino %llu %s pages 0x%lx-0x%lx of binding iova 0x%lx: %lu pages %s, result %d in %llu ns",
			     __entry->ino, show_gmem_reason(__entry->reason),
			     __entry->start, __entry->last, __entry->iova,
			     __entry->nr, show_gmem_unmap(__entry->reason),
			     __entry->result, __entry->duration_ns));

DEFINE_EVENT_PRINT(gmem_iommu_update, gmem_iommu_cut,
		   TP_PROTO(const struct gmem_binding *b, const struct gmem_event *event,
			    unsigned long nr, int result, u64 duration_ns),
		   TP_ARGS(b, event, nr, result, duration_ns),
		   TP_printk("ino %llu %s pages 0x%lx-0x%lx of binding iova 0x%lx: %lu leaves->tables, result %d in %llu ns",
			     __entry->ino, show_gmem_reason(__entry->reason),
			     __entry->start, __entry->last, __entry->iova,
			     __entry->nr, __entry->result,
			     __entry->duration_ns));

DEFINE_EVENT_PRINT(gmem_iommu_update, gmem_iommu_merge,
		   TP_PROTO(const struct gmem_binding *b, const struct gmem_event *event,
			    unsigned long nr, int result, u64 duration_ns),
		   TP_ARGS(b, event, nr, result, duration_ns),
		   TP_printk("ino %llu %s pages 0x%lx-0x%lx of binding iova 0x%lx: %lu tables->leaves, result %d in %llu ns",
			     __entry->ino, show_gmem_reason(__entry->reason),
			     __entry->start, __entry->last, __entry->iova,
			     __entry->nr, __entry->result,
			     __entry->duration_ns));

#endif /* _GMEM_IOMMU_TRACE_H */

/* This part must be outside protection */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
