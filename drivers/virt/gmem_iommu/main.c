// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/gmem_iommu: tells what the kernel can do, and creates bindings.
 *
 * No capability is needed: whoever holds the file descriptors of a guest_memfd
 * and of an iommufd may connect them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/uaccess.h>

#include "gmem_iommu.h"

#define GMEM_IOMMU_BIND_FLAGS \
	(GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE | GMEM_IOMMU_BIND_FIXED_IOVA)

/**
 * gmem_iommu_copy_args - Read a structure whose first field is its size
 * @args: Structure to fill
 * @ksize: Its size as the kernel knows it
 * @min_size: Size of its first version
 * @uarg: User pointer
 *
 * Return: 0; -EINVAL when user space's structure is smaller than the first
 *	version; -E2BIG when it is larger than the kernel's and the excess is not
 *	zero, or larger than a page; -EFAULT.
 */
int gmem_iommu_copy_args(void *args, size_t ksize, size_t min_size,
			 const void __user *uarg)
{
	u32 usize;
	int ret;

	if (get_user(usize, (const u32 __user *)uarg))
		return -EFAULT;
	if (usize < min_size)
		return -EINVAL;
	if (usize > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(args, ksize, uarg, usize);
	/* User space can have changed it in between. */
	*(u32 *)args = usize;
	return ret;
}

/**
 * gmem_iommu_return_args - Write a structure back, as much as the user knows
 * @args: Structure read by gmem_iommu_copy_args()
 * @ksize: Its size as the kernel knows it
 * @uarg: User pointer
 *
 * Return: 0 or -EFAULT.
 */
int gmem_iommu_return_args(const void *args, size_t ksize, void __user *uarg)
{
	u32 usize = *(const u32 *)args;

	if (copy_to_user(uarg, args, min_t(size_t, usize, ksize)))
		return -EFAULT;
	return 0;
}

static int gmem_iommu_get_info(void __user *uarg)
{
	struct gmem_iommu_info info;
	int ret;

	ret = gmem_iommu_copy_args(&info, sizeof(info), sizeof(info), uarg);
	if (ret)
		return ret;

	info = (struct gmem_iommu_info) {
		.size = info.size,
		.abi_version = GMEM_IOMMU_ABI_VERSION,
		.features = GMEM_IOMMU_FEATURE_POLICY_ALL,
		.max_leaf_size = GMEM_IOMMU_MAX_LEAF_SIZE,
		.max_query_runs = GMEM_IOMMU_MAX_QUERY_RUNS,
	};
	return gmem_iommu_return_args(&info, sizeof(info), uarg);
}

static int gmem_iommu_check_bind(const struct gmem_iommu_bind *args)
{
	u64 end;

	if (args->flags & ~GMEM_IOMMU_BIND_FLAGS || args->__reserved ||
	    args->policy > GMEM_IOMMU_POLICY_ALL)
		return -EOPNOTSUPP;
	if (!(args->flags & (GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE)))
		return -EINVAL;
	if (args->max_leaf_size && (!is_power_of_2(args->max_leaf_size) ||
				    args->max_leaf_size < PAGE_SIZE))
		return -EINVAL;
	if (!args->length || !PAGE_ALIGNED(args->offset) ||
	    !PAGE_ALIGNED(args->length))
		return -EINVAL;
	if (check_add_overflow(args->offset, args->length, &end))
		return -EOVERFLOW;
	if (args->flags & GMEM_IOMMU_BIND_FIXED_IOVA) {
		if (!PAGE_ALIGNED(args->iova))
			return -EINVAL;
		if (check_add_overflow(args->iova, args->length - 1, &end) ||
		    end > ULONG_MAX)
			return -EOVERFLOW;
	}
	return 0;
}

static struct gmem_binding *gmem_iommu_bind_fds(const struct gmem_iommu_bind *args)
{
	struct gmem_binding *b;
	struct iommufd_ctx *ictx;

	CLASS(fd, gmem)(args->gmem_fd);
	if (fd_empty(gmem))
		return ERR_PTR(-EBADF);

	CLASS(fd, iommufd)(args->iommufd);
	if (fd_empty(iommufd))
		return ERR_PTR(-EBADF);
	ictx = iommufd_ctx_from_file(fd_file(iommufd));
	if (IS_ERR(ictx))
		return ERR_PTR(-EINVAL);

	b = gmem_mirror_bind(fd_file(gmem), ictx, args);
	iommufd_ctx_put(ictx);
	return b;
}

static int gmem_iommu_bind(void __user *uarg)
{
	struct gmem_iommu_bind args;
	struct gmem_binding *b;
	struct file *file;
	int ret;

	ret = gmem_iommu_copy_args(&args, sizeof(args), sizeof(args), uarg);
	if (ret)
		return ret;
	ret = gmem_iommu_check_bind(&args);
	if (ret)
		return ret;

	CLASS(get_unused_fd, fd)(O_CLOEXEC);
	if (fd < 0)
		return fd;

	b = gmem_iommu_bind_fds(&args);
	if (IS_ERR(b))
		return PTR_ERR(b);

	file = anon_inode_getfile("[gmem_iommu]", &gmem_binding_fops, b, O_RDWR);
	if (IS_ERR(file)) {
		gmem_mirror_unbind(b);
		return PTR_ERR(file);
	}

	args.iova = b->iova;
	args.out_fd = fd;
	ret = gmem_iommu_return_args(&args, sizeof(args), uarg);
	if (ret) {
		/* Releases the binding. */
		fput(file);
		return ret;
	}

	fd_install(take_fd(fd), file);
	return 0;
}

static long gmem_iommu_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case GMEM_IOMMU_GET_INFO:
		return gmem_iommu_get_info(uarg);
	case GMEM_IOMMU_BIND:
		return gmem_iommu_bind(uarg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations gmem_iommu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = gmem_iommu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice gmem_iommu_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem_iommu",
	.fops = &gmem_iommu_fops,
	.mode = 0666,
};

static int __init gmem_iommu_init(void)
{
	int ret;

	gmem_debugfs_init();
	ret = misc_register(&gmem_iommu_misc);
	if (ret)
		gmem_debugfs_exit();
	return ret;
}
module_init(gmem_iommu_init);

static void __exit gmem_iommu_exit(void)
{
	misc_deregister(&gmem_iommu_misc);
	gmem_debugfs_exit();
}
module_exit(gmem_iommu_exit);

MODULE_IMPORT_NS("GUEST_MEMFD");
MODULE_IMPORT_NS("IOMMUFD");
MODULE_IMPORT_NS("IOMMUFD_EXT");
MODULE_DESCRIPTION("IOMMU mirror of guest_memfd's shared pages");
MODULE_LICENSE("GPL");
