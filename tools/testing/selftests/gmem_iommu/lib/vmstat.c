// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own count of its pages.
 */
#include "text.h"
#include "vmstat.h"

#define VMSTAT		"/proc/vmstat"

long long vmstat_get(const char *name)
{
	int ret;

	/* Each CPU keeps some for itself until it is asked. */
	ret = text_write("/proc/sys/vm/stat_refresh", "1");
	return ret ? ret : text_get_key(VMSTAT, name);
}

/* These are counted at once. */
long long vmstat_get_memmap(void)
{
	long long boot = text_get_key(VMSTAT, "nr_memmap_boot_pages");

	return boot < 0 ? boot : boot + text_get_key(VMSTAT, "nr_memmap_pages");
}
