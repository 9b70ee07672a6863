/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <zstd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"
#include "worker/unpack.h"

enum { TAR_MAX = 160 << 20 };

/* --- archives, by hand: libarchive would not write most of these --- */

struct archive_text {
	struct buf index;	/* the elements of "files" */
	struct buf body;	/* tar entries behind the index */
};

static void text_init(struct archive_text *t)
{
	buf_init(&t->index, TAR_MAX);
	buf_init(&t->body, TAR_MAX);
}

static void text_release(struct archive_text *t)
{
	buf_release(&t->index);
	buf_release(&t->body);
}
#define ARCHIVE(t) \
	struct archive_text t CLEANUP(text_release); \
	text_init(&t)

static void put(struct buf *b, const void *p, size_t n)
{
	struct err e;

	assert_ok(buf_put(b, p, n, &e), &e);
}

static void pad(struct buf *b, size_t n)
{
	struct err e;
	uint8_t *to = n ? buf_reserve(b, n, &e) : NULL;

	if (!n)
		return;
	assert_non_null(to);
	memset(to, 0, n);
	buf_commit(b, n);
}

static void octal(char *field, size_t size, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)v);
	memcpy(field, text, size - 1);
}

/* A ustar header. */
static void header(struct buf *b, const char *name, char type, unsigned mode, uint64_t size,
		   const char *link_to)
{
	char h[512] = { 0 };
	unsigned sum = 0;
	size_t len = strlen(name);

	if (len > 100) {
		memcpy(h + 345, name, len - 100);
		name += len - 100 + 1;	/* the slash between is implied */
		len = 99;
	}
	memcpy(h, name, len);
	octal(h + 100, 8, mode);
	octal(h + 108, 8, 0);
	octal(h + 116, 8, 0);
	octal(h + 124, 12, size);
	octal(h + 136, 12, 0);
	memset(h + 148, ' ', 8);
	h[156] = type;
	memcpy(h + 157, link_to, strlen(link_to));
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	put(b, h, sizeof(h));
}

static void contents(struct buf *b, const void *p, size_t n)
{
	put(b, p, n);
	pad(b, (512 - n % 512) % 512);
}

static void in_tar(struct archive_text *t, const char *path, unsigned mode, const char *text)
{
	header(&t->body, path, '0', mode, strlen(text), "");
	contents(&t->body, text, strlen(text));
}

static void in_index_as(struct archive_text *t, const char *element)
{
	if (buf_len(&t->index))
		put(&t->index, ",", 1);
	put(&t->index, element, strlen(element));
}

static void in_index(struct archive_text *t, const char *path, unsigned mode, const char *text)
{
	char element[6000], hex[SHA256_HEX];
	uint8_t digest[SHA256_LEN];

	sha256(text, strlen(text), digest);
	hex_encode(digest, sizeof(digest), hex);
	snprintf(element, sizeof(element),
		 "{\"path\":\"%s\",\"size\":\"%zu\",\"mode\":%u,\"sha256\":\"%s\"}", path,
		 strlen(text), mode, hex);
	in_index_as(t, element);
}

static void file(struct archive_text *t, const char *path, unsigned mode, const char *text)
{
	in_index(t, path, mode, text);
	in_tar(t, path, mode, text);
}

static void directory(struct archive_text *t, const char *path)
{
	char element[6000];

	snprintf(element, sizeof(element), "{\"path\":\"%s\",\"dir\":true}", path);
	in_index_as(t, element);
	header(&t->body, path, '5', 0755, 0, "");
}

/* The whole tar: the index, what follows it, the end. */
static void assemble(struct archive_text *t, struct buf *tar)
{
	struct buf index CLEANUP(buf_release);

	buf_init(&index, TAR_MAX);
	put(&index, "{\"v\":1,\"files\":[", 16);
	put(&index, buf_data(&t->index), buf_len(&t->index));
	put(&index, "]}", 2);
	buf_init(tar, TAR_MAX);
	header(tar, ".farstep/index.json", '0', 0644, buf_len(&index), "");
	contents(tar, buf_data(&index), buf_len(&index));
	put(tar, buf_data(&t->body), buf_len(&t->body));
	pad(tar, 1024);
}

static void compress_with(const struct buf *tar, int window_log, struct buf *ret)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t n = ZSTD_compressBound(buf_len(tar)) + 64;
	struct err e;

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
	buf_init(ret, TAR_MAX * 2);
	{
		ZSTD_inBuffer in = { buf_data(tar), buf_len(tar), 0 };
		ZSTD_outBuffer out = { buf_reserve(ret, n, &e), n, 0 };

		/* in two calls, so that it is a stream and not one segment */
		in.size /= 2;
		assert_false(ZSTD_isError(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush)));
		in.size = buf_len(tar);
		assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
		buf_commit(ret, out.pos);
	}
	ZSTD_freeCCtx(c);
}

static void compress(const struct buf *tar, struct buf *ret)
{
	compress_with(tar, 20, ret);
}

/* --- unpacking them --- */

static int unpack_bytes(const struct temp_dir *d, const void *p, size_t n,
			struct unpack_result *ret, struct err *e)
{
	auto_close int fd = memfd_create("package", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	memset(e, 0, sizeof(*e));
	return unpack(fd, d->fd, "pkg", ret, e);
}

static void assert_nothing_left(const struct temp_dir *d)
{
	auto_closedir DIR *dir = opendir(d->path);
	struct dirent *ent;

	while ((ent = readdir(dir)))
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			fail_msg("left behind: %s", ent->d_name);
}

static void refused_bytes(const void *p, size_t n, const char *why)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct unpack_result got = { 4711, 4711 };
	struct err e;

	if (unpack_bytes(&d, p, n, &got, &e) == 0)
		fail_msg("accepted, but should be refused: %s", why);
	if (e.code != ERR_INTEGRITY || !strstr(e.msg, why))
		fail_msg("'%s' (%s), but should be: %s", e.msg, err_name(e.code), why);
	assert_int_equal(got.files, 4711);
	assert_nothing_left(&d);
}

static void refused_tar(const struct buf *tar, const char *why)
{
	struct buf packed CLEANUP(buf_release);

	compress(tar, &packed);
	refused_bytes(buf_data(&packed), buf_len(&packed), why);
}

static void refused(struct archive_text *t, const char *why)
{
	struct buf tar CLEANUP(buf_release);

	assemble(t, &tar);
	refused_tar(&tar, why);
}

/* In the file pkg/path is the text, with the mode. */
static void assert_file(const struct temp_dir *d, const char *path, unsigned mode, const char *text)
{
	struct buf got CLEANUP(buf_release);
	char full[5000];
	struct stat st;
	struct err e;

	buf_init(&got, 1 << 20);
	snprintf(full, sizeof(full), "pkg/%s", path);
	assert_ok(fs_read(d->fd, full, 1 << 20, &got, &e), &e);
	assert_string_equal(buf_cstr(&got, &e), text);
	assert_int_equal(fstatat(d->fd, full, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFREG | mode);
}

static void accepted(struct archive_text *t, const struct temp_dir *d, uint64_t files,
		     uint64_t bytes)
{
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct unpack_result got;
	struct err e;

	assemble(t, &tar);
	compress(&tar, &packed);
	assert_ok(unpack_bytes(d, buf_data(&packed), buf_len(&packed), &got, &e), &e);
	assert_int_equal(got.files, files);
	assert_int_equal(got.bytes, bytes);
	assert_int_equal(faccessat(d->fd, "pkg.new", F_OK, 0), -1);
}

static void sample(struct archive_text *t)
{
	file(t, "a.txt", 0644, "hello");
	directory(t, "empty");
	file(t, "sub/deep/run.sh", 0755, "#!/bin/sh\n");
	file(t, "sub/deep/x", 0644, "");
}

/* --- good ones --- */

TEST(a_package_becomes_its_files)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct stat st;
	ARCHIVE(t);

	sample(&t);
	accepted(&t, &d, 4, 15);
	assert_file(&d, "a.txt", 0644, "hello");
	assert_file(&d, "sub/deep/run.sh", 0755, "#!/bin/sh\n");
	assert_file(&d, "sub/deep/x", 0644, "");
	assert_int_equal(fstatat(d.fd, "pkg/empty", &st, 0), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(faccessat(d.fd, "pkg/.farstep", F_OK, 0), -1);
}

TEST(modes_do_not_depend_on_the_umask)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	mode_t before = umask(077);
	ARCHIVE(t);

	sample(&t);
	accepted(&t, &d, 4, 15);
	umask(before);
	assert_file(&d, "a.txt", 0644, "hello");
	assert_file(&d, "sub/deep/run.sh", 0755, "#!/bin/sh\n");
}

TEST(an_empty_package_becomes_an_empty_directory)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	ARCHIVE(t);

	accepted(&t, &d, 0, 0);
	assert_int_equal(faccessat(d.fd, "pkg", F_OK, 0), 0);
}

TEST(long_and_foreign_names_arrive)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	char path[300];
	ARCHIVE(t);

	snprintf(path, sizeof(path), "%0120d/%099d", 1, 2);
	file(&t, path, 0644, "long");
	file(&t, "\xc3\xa9t\xc3\xa9 e\xcc\x81", 0644, "accents");
	accepted(&t, &d, 2, 11);
	assert_file(&d, path, 0644, "long");
	assert_file(&d, "\xc3\xa9t\xc3\xa9 e\xcc\x81", 0644, "accents");
}

TEST(an_empty_directory_and_the_rest_of_a_killed_helper_are_replaced)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct err e;
	ARCHIVE(t);

	assert_ok(fs_mkdirs(d.fd, "pkg", 0755, &e), &e);
	assert_ok(fs_mkdirs(d.fd, "pkg.new/old/tree", 0755, &e), &e);
	sample(&t);
	accepted(&t, &d, 4, 15);
	assert_int_equal(faccessat(d.fd, "pkg/old", F_OK, 0), -1);
}

TEST(what_is_there_already_is_never_replaced)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct unpack_result got;
	struct err e;
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	compress(&tar, &packed);
	assert_ok(fs_mkdirs(d.fd, "pkg/mine", 0755, &e), &e);
	assert_int_equal(unpack_bytes(&d, buf_data(&packed), buf_len(&packed), &got, &e), -1);
	assert_int_equal(e.code, ERR_EXISTS);
	assert_int_equal(faccessat(d.fd, "pkg/mine", F_OK, 0), 0);
	assert_int_equal(faccessat(d.fd, "pkg.new", F_OK, 0), -1);
	assert_int_equal(unpack(0, d.fd, "../x", &got, &e), -1);
	assert_int_equal(e.code, ERR_INVALID_PARAMS);
}

TEST(a_pipe_that_trickles_is_read_to_its_end)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct unpack_result got;
	struct err e;
	int p[2], status;
	pid_t pid;
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	compress(&tar, &packed);
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	pid = fork();
	if (pid == 0) {
		for (size_t i = 0; i < buf_len(&packed); i++) {
			(void)!write(p[1], buf_data(&packed) + i, 1);
			if (i % 50 == 0)
				usleep(1000);
		}
		_exit(0);
	}
	close(p[1]);
	assert_ok(unpack(p[0], d.fd, "pkg", &got, &e), &e);
	close(p[0]);
	waitpid(pid, &status, 0);
	assert_file(&d, "a.txt", 0644, "hello");
}

/* --- hostile entries --- */

TEST(paths_that_leave_are_refused)
{
	static const char *const cases[][2] = {
		{ "../x", "'../x': a path with '..'" },
		{ "a/../../x", "a path with '..'" },
		{ "a/..", "a path with '..'" },
		{ "/etc/x", "'/etc/x': an absolute path" },
		{ "//x", "an absolute path" },
		{ "a//b", "no clean path" },
		{ "./a", "no clean path" },
		{ "a/./b", "no clean path" },
		{ ".farstep/x", "a reserved path" },
		{ ".farstep", "a reserved path" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ARCHIVE(in_both);
		ARCHIVE(in_one);

		file(&in_both, cases[i][0], 0644, "x");
		refused(&in_both, cases[i][1]);
		in_tar(&in_one, cases[i][0], 0644, "x");
		refused(&in_one, cases[i][1]);
	}
	assert_int_equal(access("/etc/x", F_OK), -1);
}

TEST(a_path_over_the_bounds_is_refused)
{
	char path[5000] = "";
	ARCHIVE(deep);
	ARCHIVE(long_one);

	for (int i = 0; i <= LIMIT_PATH_DEPTH; i++)
		strcat(path, i ? "/d" : "d");
	in_index(&deep, path, 0644, "");
	refused(&deep, "a path over the bounds");
	memset(path, 0, sizeof(path));
	for (int i = 0; i < 4097; i++)
		path[i] = i % 200 == 199 ? '/' : 'n';
	in_index(&long_one, path, 0644, "");
	refused(&long_one, "a path over the bounds");
	memset(path, 'n', 256);
	path[256] = 0;
	text_release(&long_one);
	text_init(&long_one);
	in_index(&long_one, path, 0644, "");
	refused(&long_one, "no clean path");
}

TEST(links_devices_and_the_like_are_refused)
{
	static const struct {
		char type;
		const char *to, *why;
	} cases[] = {
		{ '2', "/etc/passwd", "'b': a symbolic link" },
		{ '2', "a", "'b': a symbolic link" },
		{ '1', "/etc/passwd", "'b': a hard link" },
		{ '1', "a", "'b': a hard link" },
		{ '3', "", "'b': a device" },
		{ '4', "", "'b': a device" },
		{ '6', "", "'b': a fifo" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ARCHIVE(t);

		file(&t, "a", 0644, "");
		in_index(&t, "b", 0644, "");
		header(&t.body, "b", cases[i].type, 0644, 0, cases[i].to);
		refused(&t, cases[i].why);
	}
}

TEST(a_file_through_a_link_of_the_archive_is_refused)
{
	ARCHIVE(t);

	in_index(&t, "d/x", 0644, "x");
	header(&t.body, "d", '2', 0777, 0, "/tmp");
	in_tar(&t, "d/x", 0644, "x");
	refused(&t, "'d': a symbolic link");
}

TEST(setuid_setgid_and_sticky_are_refused)
{
	static const unsigned modes[] = { 04755, 02755, 01755, 06777 };

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		ARCHIVE(honest);
		ARCHIVE(lying);

		in_index(&honest, "a", modes[i], "x");
		in_tar(&honest, "a", modes[i], "x");
		refused(&honest, "is neither 0644 nor 0755");
		in_index(&lying, "a", 0755, "x");
		in_tar(&lying, "a", modes[i], "x");
		refused(&lying, "'a': setuid, setgid or sticky");
	}
}

TEST(an_entry_twice_is_refused)
{
	ARCHIVE(in_both);
	ARCHIVE(in_tar_only);

	file(&in_both, "a", 0644, "x");
	file(&in_both, "a", 0644, "y");
	refused(&in_both, "'a': not in the index's order, or twice in it");
	file(&in_tar_only, "a", 0644, "x");
	in_tar(&in_tar_only, "a", 0644, "y");
	refused(&in_tar_only, "'a': twice in the archive");
}

TEST(a_file_below_a_file_is_refused)
{
	ARCHIVE(t);

	file(&t, "a", 0644, "x");
	file(&t, "a/b", 0644, "x");
	refused(&t, "'a/b': a file is where it needs a directory");
}

/* --- index and archive disagree --- */

TEST(a_missing_index_is_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	buf_init(&tar, TAR_MAX);
	in_tar(&t, "a", 0644, "x");
	put(&tar, buf_data(&t.body), buf_len(&t.body));
	pad(&tar, 1024);
	refused_tar(&tar, "its first entry is not .farstep/index.json");
	buf_reset(&tar);
	pad(&tar, 1024);
	refused_tar(&tar, "its first entry is not .farstep/index.json");
}

TEST(an_index_that_is_no_file_is_refused)
{
	struct buf tar CLEANUP(buf_release);

	buf_init(&tar, TAR_MAX);
	header(&tar, ".farstep/index.json", '5', 0755, 0, "");
	pad(&tar, 1024);
	refused_tar(&tar, "no file, or over the bounds");
	buf_reset(&tar);
	header(&tar, ".farstep/index.json", '2', 0777, 0, "/etc/passwd");
	pad(&tar, 1024);
	refused_tar(&tar, "'.farstep/index.json': a symbolic link");
	buf_reset(&tar);
	header(&tar, ".farstep/index.json", '0', 0644, LIMIT_MANIFEST + 1, "");
	pad(&tar, LIMIT_MANIFEST + 512);
	refused_tar(&tar, "no file, or over the bounds");
}

static void refused_index(const char *text, const char *why)
{
	struct buf tar CLEANUP(buf_release);

	buf_init(&tar, TAR_MAX);
	header(&tar, ".farstep/index.json", '0', 0644, strlen(text), "");
	contents(&tar, text, strlen(text));
	pad(&tar, 1024);
	refused_tar(&tar, why);
}

TEST(an_index_that_is_no_index_is_refused)
{
	static const char hex[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char text[500];

	refused_index("", "index");
	refused_index("{", "index");
	refused_index("[]", "not of version 1");
	refused_index("{\"files\":[]}", "not of version 1");
	refused_index("{\"v\":2,\"files\":[]}", "not of version 1");
	refused_index("{\"v\":\"1\",\"files\":[]}", "not of version 1");
	refused_index("{\"v\":1}", "no array 'files'");
	refused_index("{\"v\":1,\"files\":{}}", "no array 'files'");
	refused_index("{\"v\":1,\"files\":[0,0,0]}", "no object with a path");
	refused_index("{\"v\":1,\"files\":[{}]}", "no object with a path");
	refused_index("{\"v\":1,\"files\":[{\"path\":1}]}", "no object with a path");
	refused_index("{\"v\":1,\"files\":[{\"path\":\"\",\"dir\":true}]}", "no clean path");
	refused_index("{\"v\":1,\"files\":[{\"path\":\"a\\nb\",\"dir\":true}]}", "no clean path");
	refused_index("{\"v\":1,\"files\":[{\"path\":\"a\"}]}", "'a': file.size");
	refused_index("{\"v\":1,\"files\":[]}x", "index");
	refused_index("{\"v\":1,\"v\":1,\"files\":[]}", "index");
	snprintf(text, sizeof(text),
		 "{\"v\":1,\"files\":[{\"path\":\"a\",\"size\":\"1\",\"mode\":420,\"sha256\":\"%"
		 "s0\"}]}",
		 hex);
	refused_index(text, "'a'");
	snprintf(text, sizeof(text),
		 "{\"v\":1,\"files\":[{\"path\":\"a\",\"size\":\"1\",\"mode\":511,\"sha256\":\"%"
		 "s\"}]}",
		 hex);
	refused_index(text, "mode 0777 is neither 0644 nor 0755");
	snprintf(text, sizeof(text),
		 "{\"v\":1,\"files\":[{\"path\":\"a\",\"size\":\"-1\",\"mode\":420,\"sha256\":\"%"
		 "s\"}]}",
		 hex);
	refused_index(text, "'a': file.size");
}

TEST(unknown_members_and_white_space_in_the_index_are_fine)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	ARCHIVE(t);

	in_index_as(
		&t,
		" \n{ \"path\" : \"a\" , \"dir\" : true, \"note\": [{\"x\":\"]},{\\\"\"}, 2] } ");
	header(&t.body, "a", '5', 0755, 0, "");
	accepted(&t, &d, 1, 0);
}

TEST(an_archive_that_differs_from_its_index_is_refused)
{
	ARCHIVE(more);
	ARCHIVE(fewer);
	ARCHIVE(order);
	ARCHIVE(unsorted);
	ARCHIVE(size);
	ARCHIVE(mode);
	ARCHIVE(digest);
	ARCHIVE(kind);

	file(&more, "a", 0644, "x");
	in_tar(&more, "b", 0644, "x");
	refused(&more, "'b': not the next file of the index");
	file(&fewer, "a", 0644, "x");
	in_index(&fewer, "b", 0644, "x");
	refused(&fewer, "'b': in the index, but not in the archive");
	in_index(&order, "a", 0644, "x");
	in_index(&order, "b", 0644, "x");
	in_tar(&order, "b", 0644, "x");
	in_tar(&order, "a", 0644, "x");
	refused(&order, "'b': not the next file of the index");
	file(&unsorted, "b", 0644, "x");
	file(&unsorted, "a", 0644, "x");
	refused(&unsorted, "'a': not in the index's order");
	in_index(&size, "a", 0644, "xy");
	in_tar(&size, "a", 0644, "x");
	refused(&size, "'a': its size is not the index's");
	in_index(&mode, "a", 0644, "x");
	in_tar(&mode, "a", 0755, "x");
	refused(&mode, "'a': its mode is not the index's");
	in_index(&digest, "a", 0644, "x");
	in_tar(&digest, "a", 0644, "y");
	refused(&digest, "'a': its digest is not the index's");
	in_index(&kind, "a", 0644, "");
	header(&kind.body, "a", '5', 0755, 0, "");
	refused(&kind, "'a': a file here and a directory there");
}

/* --- bombs --- */

TEST(a_bomb_by_declared_size_is_refused_before_anything_is_written)
{
	static const char element[] =
		"{\"path\":\"%c\",\"size\":\"%lld\",\"mode\":420,\"sha256\":"
		"\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}";
	char text[300];
	ARCHIVE(one);
	ARCHIVE(two);

	snprintf(text, sizeof(text), element, 'a', LIMIT_UNPACKED + 1);
	in_index_as(&one, text);
	refused(&one, "bytes in all");
	snprintf(text, sizeof(text), element, 'a', LIMIT_UNPACKED);
	in_index_as(&two, text);
	snprintf(text, sizeof(text), element, 'b', 1LL);
	in_index_as(&two, text);
	refused(&two, "bytes in all");
	text_release(&two);
	text_init(&two);
	in_index_as(&two,
		    "{\"path\":\"a\",\"size\":\"18446744073709551615\",\"mode\":420,\"sha256\":"
		    "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}");
	refused(&two, "bytes in all");
}

TEST(a_bomb_by_ratio_is_refused)
{
	char *zeros = calloc(1, 128 << 20);
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	char element[300], hex[SHA256_HEX];
	uint8_t digest[SHA256_LEN];
	ARCHIVE(t);

	assert_non_null(zeros);
	sha256(zeros, 128 << 20, digest);
	hex_encode(digest, sizeof(digest), hex);
	snprintf(element, sizeof(element),
		 "{\"path\":\"a\",\"size\":\"%d\",\"mode\":420,\"sha256\":\"%s\"}", 128 << 20, hex);
	in_index_as(&t, element);
	header(&t.body, "a", '0', 0644, 128 << 20, "");
	contents(&t.body, zeros, 128 << 20);
	free(zeros);
	assemble(&t, &tar);
	compress(&tar, &packed);
	assert_true(buf_len(&tar) / buf_len(&packed) > LIMIT_UNPACK_RATIO);
	refused_bytes(buf_data(&packed), buf_len(&packed),
		      "unpacks to more than 2000 times its size");
}

TEST(a_bomb_behind_the_last_file_is_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	file(&t, "a", 0644, "x");
	assemble(&t, &tar);
	pad(&tar, 1 << 20);	/* far below any ratio, but nothing that belongs there */
	refused_tar(&tar, "longer than its index says");
}

TEST(a_bomb_before_the_index_is_refused)
{
	struct buf tar CLEANUP(buf_release);

	buf_init(&tar, TAR_MAX);
	pad(&tar, 48 << 20);
	refused_tar(&tar, "longer than its index says");
}

TEST(a_bomb_by_entries_is_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	/* the archive has more than the index: the first is one too many */
	for (int i = 0; i < 20000; i++)
		header(&t.body, "d", '5', 0755, 0, "");
	refused(&t, "'d': not the next file of the index");
	/* special headers, which libarchive reads by recursion */
	buf_init(&tar, TAR_MAX);
	for (int i = 0; i < 100000; i++)
		header(&tar, "x", 'g', 0644, 0, "");
	refused_tar(&tar, "package: ");
	buf_reset(&tar);
	for (int i = 0; i < 100000; i++) {
		header(&tar, "x", 'x', 0644, 8, "");
		contents(&tar, "8 a=bcd\n", 8);
	}
	refused_tar(&tar, "package: ");
}

TEST(a_window_over_the_bound_is_refused)
{
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct unpack_result got;
	struct err e;
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	compress_with(&tar, LIMIT_ZSTD_WINDOW_LOG + 1, &packed);
	refused_bytes(buf_data(&packed), buf_len(&packed), "too much memory");
	buf_release(&packed);
	compress_with(&tar, LIMIT_ZSTD_WINDOW_LOG, &packed);
	assert_ok(unpack_bytes(&d, buf_data(&packed), buf_len(&packed), &got, &e), &e);
}

/* --- damage --- */

static void sample_packed(struct buf *packed)
{
	struct buf tar CLEANUP(buf_release);
	char noise[3000];
	uint32_t x = 1;
	ARCHIVE(t);

	sample(&t);
	for (size_t i = 0; i < sizeof(noise) - 1; i++) {
		x = x * 1103515245 + 12345;
		noise[i] = (char)('!' + (x >> 16) % 90);
	}
	noise[sizeof(noise) - 1] = 0;
	for (char *p = noise; *p; p++)
		if (*p == '\\' || *p == '"')
			*p = '_';
	file(&t, "z", 0644, noise);
	assemble(&t, &tar);
	compress(&tar, packed);
}

TEST(truncated_anywhere_it_is_refused)
{
	struct buf packed CLEANUP(buf_release);

	sample_packed(&packed);
	refused_bytes("", 0, "package: empty");
	for (size_t n = 1; n < buf_len(&packed); n += n < 64 || n > buf_len(&packed) - 64 ? 1 : 37)
		refused_bytes(buf_data(&packed), n, "package: truncated");
}

/* Nearly every flipped bit is found by a checksum or a digest.  Bits of a frame that mean
 * nothing (reserved, the window's size) may change: then the files are what they were. */
TEST(with_a_damaged_byte_anywhere_it_is_refused_or_the_same)
{
	struct buf packed CLEANUP(buf_release);
	size_t unharmed = 0;

	sample_packed(&packed);
	for (size_t at = 0; at < buf_len(&packed); at += at < 64 ? 1 : 11)
		for (int bit = 0; bit < 8; bit++) {
			struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
			uint8_t *p = (uint8_t *)packed.mem + packed.off + at;
			struct unpack_result got;
			struct err e;
			int r;

			*p ^= (uint8_t)(1 << bit);
			r = unpack_bytes(&d, buf_data(&packed), buf_len(&packed), &got, &e);
			*p ^= (uint8_t)(1 << bit);
			if (r == 0) {
				unharmed++;
				assert_file(&d, "a.txt", 0644, "hello");
				assert_int_equal(got.files, 5);
			} else {
				assert_int_equal(e.code, ERR_INTEGRITY);
				assert_nothing_left(&d);
			}
		}
	assert_true(unharmed < 20);
}

TEST(in_a_damaged_tar_it_is_refused_or_the_same)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	for (size_t at = 0; at < buf_len(&tar); at += 13) {
		struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
		struct buf packed CLEANUP(buf_release);
		uint8_t *p = (uint8_t *)tar.mem + tar.off + at;
		struct unpack_result got;
		struct err e;

		*p ^= 0x55;
		compress(&tar, &packed);
		*p ^= 0x55;
		if (unpack_bytes(&d, buf_data(&packed), buf_len(&packed), &got, &e) == 0) {
			assert_file(&d, "a.txt", 0644, "hello");
			assert_file(&d, "sub/deep/run.sh", 0755, "#!/bin/sh\n");
			assert_int_equal(got.files, 4);
		} else {
			assert_int_equal(e.code, ERR_INTEGRITY);
			assert_nothing_left(&d);
		}
	}
}

TEST(a_tar_cut_anywhere_is_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	/* without the blocks of zeros it is whole */
	for (size_t n = 0; n < buf_len(&tar) - 1024; n += 256) {
		struct buf cut = tar;

		cut.len = n;
		refused_tar(&cut, "package: ");
	}
}

TEST(anything_after_the_frame_is_refused)
{
	static const uint8_t skippable[] = { 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x' };
	struct buf packed CLEANUP(buf_release), twice CLEANUP(buf_release);

	sample_packed(&packed);
	buf_init(&twice, 1 << 20);
	put(&twice, buf_data(&packed), buf_len(&packed));
	put(&twice, "x", 1);
	refused_bytes(buf_data(&twice), buf_len(&twice), "package: data after its end");
	buf_reset(&twice);
	put(&twice, buf_data(&packed), buf_len(&packed));
	put(&twice, buf_data(&packed), buf_len(&packed));
	refused_bytes(buf_data(&twice), buf_len(&twice), "package: data after its end");
	buf_reset(&twice);
	put(&twice, buf_data(&packed), buf_len(&packed));
	put(&twice, skippable, sizeof(skippable));
	refused_bytes(buf_data(&twice), buf_len(&twice), "package: data after its end");
	buf_reset(&twice);
	put(&twice, skippable, sizeof(skippable));
	put(&twice, buf_data(&packed), buf_len(&packed));
	refused_bytes(buf_data(&twice), buf_len(&twice), "package: not compressed with zstd");
}

TEST(anything_after_the_end_of_the_tar_is_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	put(&tar, "x", 1);
	refused_tar(&tar, "package: ");
	pad(&tar, 511);
	refused_tar(&tar, "package: ");
	text_release(&t);
	text_init(&t);
	sample(&t);
	pad(&t.body, 1024);
	in_tar(&t, "hidden", 0644, "x");
	refused(&t, "'hidden': not the next file of the index");
}

TEST(other_compressions_and_none_are_refused)
{
	struct buf tar CLEANUP(buf_release);
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	refused_bytes(buf_data(&tar), buf_len(&tar), "package: not compressed with zstd");
	refused_bytes("\x1f\x8b\x08\x00", 4, "package: not compressed with zstd");
	refused_bytes("\x27\xb5\x2f\xfd\x00\x00", 6, "package: not compressed with zstd");
}

TEST(a_sparse_file_is_refused)
{
	char h[512];
	struct buf b CLEANUP(buf_release);
	unsigned sum = 0;
	ARCHIVE(t);

	/* old GNU format: one byte of data at 1 GiB */
	buf_init(&b, 4096);
	header(&b, "a", 'S', 0644, 1, "");
	memcpy(h, buf_data(&b), 512);
	memcpy(h + 257, "ustar  ", 8);
	memset(h + 345, 0, 512 - 345);
	octal(h + 386, 12, (1 << 30) - 1);
	octal(h + 398, 12, 1);
	octal(h + 483, 12, 1 << 30);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	in_index_as(&t, "{\"path\":\"a\",\"size\":\"1073741824\",\"mode\":420,\"sha256\":"
			"\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}");
	put(&t.body, h, sizeof(h));
	contents(&t.body, "x", 1);
	refused(&t, "'a': a sparse file");
}

/* --- the confined process --- */

struct helper {
	char line[700];
	int status;
};

/* Runs unpack_main in a process of its own on the bytes. */
static void run_helper(const struct temp_dir *d, const void *p, size_t n, const char *name,
		       void (*then)(int dir_fd), struct helper *ret)
{
	int out[2];
	ssize_t got;
	int status;
	pid_t pid;

	memset(ret, 0, sizeof(*ret));
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char in_fd[16], dir_fd[16];
		char *argv[] = { in_fd, dir_fd, (char *)(uintptr_t)name, NULL };
		int fd = memfd_create("package", MFD_CLOEXEC);

		(void)!write(fd, p, n);
		lseek(fd, 0, SEEK_SET);
		dup2(out[1], STDOUT_FILENO);
		snprintf(in_fd, sizeof(in_fd), "%d", fd);
		snprintf(dir_fd, sizeof(dir_fd), "%d", d->fd);
		status = unpack_main(3, argv);
		if (then)
			then(d->fd);
		_exit(status);
	}
	close(out[1]);
	got = read(out[0], ret->line, sizeof(ret->line) - 1);
	assert_true(got > 0);
	close(out[0]);
	waitpid(pid, &ret->status, 0);
}

TEST(the_confined_process_reports_one_line)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct helper h;
	struct err e;
	ARCHIVE(t);

	sample(&t);
	assemble(&t, &tar);
	compress(&tar, &packed);
	assert_ok(fs_mkdirs(d.fd, "pkg", 0755, &e), &e);
	run_helper(&d, buf_data(&packed), buf_len(&packed), "pkg", NULL, &h);
	assert_string_equal(h.line, "ok 4 15\n");
	assert_true(WIFEXITED(h.status) && WEXITSTATUS(h.status) == 0);
	assert_file(&d, "sub/deep/run.sh", 0755, "#!/bin/sh\n");
}

TEST(the_confined_process_cleans_up_and_says_why)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct buf tar CLEANUP(buf_release), packed CLEANUP(buf_release);
	struct helper h;
	ARCHIVE(t);

	file(&t, "a/b/c", 0644, "x");
	in_tar(&t, "evil\nok 1 1", 0644, "x");
	assemble(&t, &tar);
	compress(&tar, &packed);
	run_helper(&d, buf_data(&packed), buf_len(&packed), "pkg", NULL, &h);
	assert_string_equal(h.line, "integrity package: 'evil?ok 1 1': no clean path\n");
	assert_true(WIFEXITED(h.status) && WEXITSTATUS(h.status) == 1);
	assert_nothing_left(&d);
	run_helper(&d, "", 0, "a/b", NULL, &h);
	assert_string_equal(h.line, "invalid_params package: 'a/b': not a name\n");
}

static void try_the_walls(int dir_fd)
{
	struct rlimit files, size;
	int fd = openat(dir_fd, "inside", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_FSIZE, &size);
	if (fd < 0 || files.rlim_max > 64 || size.rlim_max > (rlim_t)LIMIT_UNPACKED ||
	    prctl(PR_GET_DUMPABLE) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		_exit(40);
	if (syscall(444, NULL, 0, 1) < 1)
		_exit(41);	/* no Landlock here */
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES ||
	    openat(dir_fd, "../outside", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 ||
	    errno != EACCES || symlinkat("x", dir_fd, "link") == 0 ||
	    mkfifoat(dir_fd, "f", 0600) == 0)
		_exit(42);
	_exit(43);
}

TEST(the_confined_process_reaches_nothing_but_its_directory)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	struct helper h;

	run_helper(&d, "", 0, "pkg", try_the_walls, &h);
	assert_string_equal(h.line, "integrity package: empty\n");
	assert_true(WIFEXITED(h.status));
	if (WEXITSTATUS(h.status) == 1)
		skip();	/* the sanitizers' build leaves at once */
	if (WEXITSTATUS(h.status) == 41)
		skip();
	assert_int_equal(WEXITSTATUS(h.status), 43);
}

/* From outside, while the helper waits for its package. */
TEST(the_confined_process_can_gain_no_privileges)
{
	struct temp_dir d CLEANUP(temp_dir_release) = temp_dir();
	char path[64], text[4096] = "";
	int in[2], out[2], status;
	auto_close int fd = -1;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char in_fd[16], dir_fd[16];
		char name[] = "pkg";
		char *argv[] = { in_fd, dir_fd, name, NULL };

		close(in[1]);
		dup2(out[1], STDOUT_FILENO);
		close(out[1]);
		snprintf(in_fd, sizeof(in_fd), "%d", in[0]);
		snprintf(dir_fd, sizeof(dir_fd), "%d", d.fd);
		_exit(unpack_main(3, argv));
	}
	close(in[0]);
	close(out[1]);
	for (int i = 0; i < 2000 && faccessat(d.fd, "pkg.new", F_OK, 0) < 0; i++)
		usleep(1000);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	close(in[1]);
	assert_int_equal(read(out[0], &c, 1), 1);
	close(out[0]);
	waitpid(pid, &status, 0);
	assert_nothing_left(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_package_becomes_its_files),
		cmocka_unit_test(modes_do_not_depend_on_the_umask),
		cmocka_unit_test(an_empty_package_becomes_an_empty_directory),
		cmocka_unit_test(long_and_foreign_names_arrive),
		cmocka_unit_test(an_empty_directory_and_the_rest_of_a_killed_helper_are_replaced),
		cmocka_unit_test(what_is_there_already_is_never_replaced),
		cmocka_unit_test(a_pipe_that_trickles_is_read_to_its_end),
		cmocka_unit_test(paths_that_leave_are_refused),
		cmocka_unit_test(a_path_over_the_bounds_is_refused),
		cmocka_unit_test(links_devices_and_the_like_are_refused),
		cmocka_unit_test(a_file_through_a_link_of_the_archive_is_refused),
		cmocka_unit_test(setuid_setgid_and_sticky_are_refused),
		cmocka_unit_test(an_entry_twice_is_refused),
		cmocka_unit_test(a_file_below_a_file_is_refused),
		cmocka_unit_test(a_missing_index_is_refused),
		cmocka_unit_test(an_index_that_is_no_file_is_refused),
		cmocka_unit_test(an_index_that_is_no_index_is_refused),
		cmocka_unit_test(unknown_members_and_white_space_in_the_index_are_fine),
		cmocka_unit_test(an_archive_that_differs_from_its_index_is_refused),
		cmocka_unit_test(a_bomb_by_declared_size_is_refused_before_anything_is_written),
		cmocka_unit_test(a_bomb_by_ratio_is_refused),
		cmocka_unit_test(a_bomb_behind_the_last_file_is_refused),
		cmocka_unit_test(a_bomb_before_the_index_is_refused),
		cmocka_unit_test(a_bomb_by_entries_is_refused),
		cmocka_unit_test(a_window_over_the_bound_is_refused),
		cmocka_unit_test(truncated_anywhere_it_is_refused),
		cmocka_unit_test(with_a_damaged_byte_anywhere_it_is_refused_or_the_same),
		cmocka_unit_test(in_a_damaged_tar_it_is_refused_or_the_same),
		cmocka_unit_test(a_tar_cut_anywhere_is_refused),
		cmocka_unit_test(anything_after_the_frame_is_refused),
		cmocka_unit_test(anything_after_the_end_of_the_tar_is_refused),
		cmocka_unit_test(other_compressions_and_none_are_refused),
		cmocka_unit_test(a_sparse_file_is_refused),
		cmocka_unit_test(the_confined_process_reports_one_line),
		cmocka_unit_test(the_confined_process_cleans_up_and_says_why),
		cmocka_unit_test(the_confined_process_reaches_nothing_but_its_directory),
		cmocka_unit_test(the_confined_process_can_gain_no_privileges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
