/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a package.  The first byte says how: 'z': what follows is the package;
 * else it is a tar that is packed here, because mutations inside of a zstd frame seldom
 * get behind its checksum.  Whatever is refused must leave nothing behind. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "protocol/base/fs.h"
#include "worker/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static char path[] = "/tmp/fuzz-unpack-XXXXXX";

static void remove_directory(void)
{
	fs_remove_tree(AT_FDCWD, path, NULL);
}

static int directory(void)
{
	static int fd = -1;

	if (fd >= 0)
		return fd;
	if (!mkdtemp(path) || (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	atexit(remove_directory);
	return fd;
}

static int package_of(const uint8_t *p, size_t n)
{
	int fd = memfd_create("package", MFD_CLOEXEC);
	size_t size = ZSTD_compressBound(n);
	void *packed = malloc(size);

	if (fd < 0 || !packed)
		abort();
	if (n && p[0] == 'z') {
		if (write(fd, p + 1, n - 1) != (ssize_t)n - 1)
			abort();
	} else {
		size = ZSTD_compress(packed, size, n ? p + 1 : p, n ? n - 1 : 0, 1);
		if (ZSTD_isError(size) || write(fd, packed, size) != (ssize_t)size)
			abort();
	}
	free(packed);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int dir = directory(), fd = package_of(p, n);
	struct unpack_result got;
	struct err e = ERR_INIT;
	int r = unpack(fd, dir, "pkg", &got, &e);

	close(fd);
	if (r < 0 && (e.code == ERR_NONE || !e.msg[0]))
		abort();
	if (r < 0 && faccessat(dir, "pkg", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		abort();
	if (faccessat(dir, "pkg.new", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		abort();
	if (r == 0 && fs_remove_tree(dir, "pkg", &e) < 0)
		abort();
	return 0;
}
