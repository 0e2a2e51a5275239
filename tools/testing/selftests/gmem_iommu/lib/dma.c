// SPDX-License-Identifier: GPL-2.0
/*
 * Real DMA by QEMU's "edu" PCI device, through vfio-pci and iommufd.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dma.h"
#include "gmem_vm.h"
#include "kmsg.h"
#include "text.h"
#include "xioctl.h"

#define PCI_DEVICES	"/sys/bus/pci/devices/"
#define EDU_MODALIAS	"pci:v00001234d000011E8"

/* Registers in BAR 0 */
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_RUN	1
#define EDU_DMA_TO_RAM	2

/* The device's buffer, in its own address space */
#define EDU_BUFFER	0x40000

/* One transfer takes 100 ms of the emulator's time. */
#define EDU_TIMEOUT_US	10000000
#define EDU_POLL_US	5000

/* One interval of the kernel's rate limit is 5 s. */
#define FAULT_TRIES	12
#define FAULT_WAIT_MS	500

#define CANARY		0xc5

static int read_text(const char *path, char *text, size_t size)
{
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	text[n] = '\0';
	return 0;
}

static int compare_bdfs(const void *a, const void *b)
{
	return strcmp(a, b);
}

void edu_list(struct edu_list *list)
{
	char path[sizeof(PCI_DEVICES) + NAME_MAX + 16];
	struct dirent *entry;
	char modalias[128];
	DIR *dir;

	list->nr = 0;
	dir = opendir(PCI_DEVICES);
	if (!dir)
		return;

	while (list->nr < EDU_LIST_MAX && (entry = readdir(dir))) {
		if (strlen(entry->d_name) >= EDU_BDF_LEN)
			continue;
		snprintf(path, sizeof(path), PCI_DEVICES "%s/modalias",
			 entry->d_name);
		if (read_text(path, modalias, sizeof(modalias)))
			continue;
		if (strncmp(modalias, EDU_MODALIAS, strlen(EDU_MODALIAS)))
			continue;
		memcpy(list->bdf[list->nr++], entry->d_name,
		       strlen(entry->d_name) + 1);
	}
	closedir(dir);

	qsort(list->bdf, list->nr, EDU_BDF_LEN, compare_bdfs);
}

/* Path of the device's VFIO character device; binds vfio-pci if need be. */
static int find_cdev(const char *bdf, char *path, size_t size)
{
	char dirname[128];
	struct dirent *entry;
	int ret = -ENODEV;
	DIR *dir;

	snprintf(dirname, sizeof(dirname), PCI_DEVICES "%s/vfio-dev", bdf);
	dir = opendir(dirname);
	if (!dir)
		return -errno;

	while ((entry = readdir(dir))) {
		/* "vfio0", or "noiommu-vfio0" */
		if (!strstr(entry->d_name, "vfio"))
			continue;
		snprintf(path, size, "/dev/vfio/devices/%s", entry->d_name);
		ret = 0;
	}
	closedir(dir);
	return ret;
}

static int bind_vfio_pci(const char *bdf)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override", bdf);
	ret = text_write(path, "vfio-pci");
	if (ret)
		return ret;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver/unbind", bdf);
	ret = text_write(path, bdf);
	if (ret && ret != -ENOENT)
		return ret;

	return text_write("/sys/bus/pci/drivers_probe", bdf);
}

static int bind_iommufd(struct edu *edu, int iommufd)
{
	struct vfio_device_bind_iommufd args = {
		.argsz = sizeof(args),
		.iommufd = iommufd,
	};
	int ret;

	ret = xioctl(edu->fd, VFIO_DEVICE_BIND_IOMMUFD, &args);
	if (!ret)
		edu->dev_id = args.out_devid;
	return ret;
}

static int map_registers(struct edu *edu)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	int ret;

	ret = xioctl(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &info);
	if (ret)
		return ret;

	edu->bar_size = info.size;
	edu->bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
			edu->fd, info.offset);
	if (edu->bar == MAP_FAILED) {
		edu->bar = NULL;
		return -errno;
	}
	return 0;
}

/* VFIO hands out devices that may not do DMA. */
static int enable_bus_master(struct edu *edu)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	__u16 command;
	int ret;

	ret = xioctl(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &info);
	if (ret)
		return ret;

	if (pread(edu->fd, &command, sizeof(command),
		  info.offset + PCI_COMMAND) != sizeof(command))
		return -EIO;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(edu->fd, &command, sizeof(command),
		   info.offset + PCI_COMMAND) != sizeof(command))
		return -EIO;
	return 0;
}

int edu_open(struct edu *edu, const char *bdf, int iommufd)
{
	char path[NAME_MAX + 32];
	int ret;

	memset(edu, 0, sizeof(*edu));
	edu->fd = -1;
	snprintf(edu->bdf, sizeof(edu->bdf), "%s", bdf);

	ret = find_cdev(bdf, path, sizeof(path));
	if (ret) {
		ret = bind_vfio_pci(bdf);
		if (ret)
			return ret;
		ret = find_cdev(bdf, path, sizeof(path));
		if (ret)
			return ret;
	}

	edu->fd = open(path, O_RDWR | O_CLOEXEC);
	if (edu->fd < 0)
		return -errno;

	ret = bind_iommufd(edu, iommufd);
	if (!ret)
		ret = map_registers(edu);
	if (!ret)
		ret = enable_bus_master(edu);
	if (ret)
		edu_close(edu);
	return ret;
}

void edu_close(struct edu *edu)
{
	if (edu->bar)
		munmap(edu->bar, edu->bar_size);
	edu->bar = NULL;
	if (edu->fd >= 0)
		close(edu->fd);
	edu->fd = -1;
	edu->ioas = NULL;
}

int edu_attach(struct edu *edu, struct ioas *ioas, __u32 pt_id)
{
	struct vfio_device_attach_iommufd_pt args = {
		.argsz = sizeof(args),
		.pt_id = pt_id,
	};
	int ret;

	ret = xioctl(edu->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &args);
	if (!ret)
		edu->ioas = ioas;
	return ret;
}

int edu_detach(struct edu *edu)
{
	struct vfio_device_detach_iommufd_pt args = { .argsz = sizeof(args) };
	int ret;

	ret = xioctl(edu->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &args);
	if (!ret)
		edu->ioas = NULL;
	return ret;
}

static void edu_set(struct edu *edu, unsigned int reg, __u64 value)
{
	__atomic_store_n((__u64 *)(edu->bar + reg), value, __ATOMIC_SEQ_CST);
}

static __u64 edu_get(struct edu *edu, unsigned int reg)
{
	return __atomic_load_n((__u64 *)(edu->bar + reg), __ATOMIC_SEQ_CST);
}

/* One transfer of a page between memory and the device's buffer. */
static int edu_transfer(struct edu *edu, __u64 iova, bool to_ram)
{
	int waited;

	edu_set(edu, EDU_DMA_SRC, to_ram ? EDU_BUFFER : iova);
	edu_set(edu, EDU_DMA_DST, to_ram ? iova : EDU_BUFFER);
	edu_set(edu, EDU_DMA_COUNT, GMEM_PAGE_SIZE);
	edu_set(edu, EDU_DMA_CMD, EDU_DMA_RUN | (to_ram ? EDU_DMA_TO_RAM : 0));

	for (waited = 0; waited < EDU_TIMEOUT_US; waited += EDU_POLL_US) {
		if (!(edu_get(edu, EDU_DMA_CMD) & EDU_DMA_RUN))
			return 0;
		usleep(EDU_POLL_US);
	}
	return -ETIMEDOUT;
}

int dma_read(struct edu *edu, __u64 iova, void *buf)
{
	void *scratch;
	int ret;

	if (!edu->ioas)
		return -ENODEV;
	scratch = edu->ioas->scratch;

	memset(scratch, CANARY, GMEM_PAGE_SIZE);
	ret = edu_transfer(edu, IOAS_SCRATCH_IOVA, false);
	if (ret)
		return ret;
	ret = edu_transfer(edu, iova, false);
	if (ret)
		return ret;

	/* If this one is blocked, the scratch page keeps other contents. */
	memset(scratch, (__u8)~CANARY, GMEM_PAGE_SIZE);
	ret = edu_transfer(edu, IOAS_SCRATCH_IOVA, true);
	if (ret)
		return ret;
	memcpy(buf, scratch, GMEM_PAGE_SIZE);
	return 0;
}

int dma_write(struct edu *edu, __u64 iova, const void *buf)
{
	int ret;

	if (!edu->ioas)
		return -ENODEV;

	memcpy(edu->ioas->scratch, buf, GMEM_PAGE_SIZE);
	ret = edu_transfer(edu, IOAS_SCRATCH_IOVA, false);
	if (ret)
		return ret;
	return edu_transfer(edu, iova, true);
}

bool dma_read_matches(struct edu *edu, __u64 iova, __u64 gpa, __u32 seed)
{
	__u8 page[GMEM_PAGE_SIZE];

	return !dma_read(edu, iova, page) &&
	       gmem_pattern_matches(page, gpa, seed);
}

bool dma_read_faults(struct edu *edu, __u64 iova)
{
	char line[128];
	bool found = false;
	int fd, i;

	snprintf(line, sizeof(line), "Request device [%.13s] fault addr 0x%llx ",
		 edu->bdf, (unsigned long long)iova);

	fd = kmsg_open();
	if (fd < 0)
		return false;
	for (i = 0; i < FAULT_TRIES && !found; i++) {
		if (edu_transfer(edu, iova, false))
			break;
		found = kmsg_wait(fd, line, FAULT_WAIT_MS);
	}
	close(fd);
	return found;
}
