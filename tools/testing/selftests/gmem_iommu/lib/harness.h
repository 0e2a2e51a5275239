/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kselftest_harness.h with a time limit for emulated machines on busy hosts. It is
 * there to end a hang, not to measure.
 */
#ifndef SELFTESTS_GMEM_IOMMU_HARNESS_H
#define SELFTESTS_GMEM_IOMMU_HARNESS_H

#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	300	/* seconds */

#endif /* SELFTESTS_GMEM_IOMMU_HARNESS_H */
