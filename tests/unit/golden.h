/* SPDX-License-Identifier: Apache-2.0
 *
 * golden - the messages of the wire as files in tests/golden: one message a file, as it
 * travels.  Each is read by a test of the worker and by one of the proxy; whoever writes that
 * message must write just these bytes.  Text files end with a newline that does not travel; in
 * .hex files a line that begins with '#' says what it is. */
#ifndef FARSTEP_TESTS_GOLDEN_H
#define FARSTEP_TESTS_GOLDEN_H

#include "tests/unit/check.h"

#include "protocol/base/buf.h"
#include "protocol/base/hash.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"

/* The text of a golden file; the caller frees. */
static inline char *golden(const char *name)
{
	const char *top = getenv("TOP");
	struct err e = ERR_INIT;
	struct buf b;
	char path[512], *text;

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top ? top : ".", name);
	buf_init(&b, LIMIT_TEXT);
	assert_ok(fs_read(AT_FDCWD, path, LIMIT_TEXT, &b, &e), &e);
	text = buf_take_str(&b, &e);
	if (!text || !*text || text[strlen(text) - 1] != '\n')
		fail_msg("%s: want a text that ends with a newline", path);
	text[strlen(text) - 1] = 0;
	buf_release(&b);
	return text;
}

/* The bytes of a .hex file. */
static inline size_t golden_hex(const char *name, uint8_t *out, size_t size)
{
	char *text = golden(name), *save = NULL;
	size_t n = 0;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		for (char *at = line; *line != '#' && *at; at += *at == ' ' ? 1 : 2) {
			if (*at == ' ')
				continue;
			if (n == size || hex_decode(at, 2, &out[n++], 1, NULL) < 0)
				fail_msg("%s: bad digits", name);
		}
	free(text);
	return n;
}

/* The value of the first member of this name, a scalar, becomes another: for what differs from
 * build to build.  The text given is freed. */
static inline char *golden_with(char *text, const char *key, const char *value)
{
	char name[64], *at, *ret;
	struct buf out;

	snprintf(name, sizeof(name), "\"%s\":", key);
	at = strstr(text, name);
	if (!at)
		fail_msg("no member %s in %s", name, text);
	at += strlen(name);
	buf_init(&out, LIMIT_TEXT);
	buf_put(&out, text, (size_t)(at - text), NULL);
	at += *at == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, ",}");
	buf_printf(&out, NULL, "%s%s", value, at);
	ret = buf_take_str(&out, NULL);
	buf_release(&out);
	free(text);
	return ret;
}

/* A member of keys.json; the caller frees. */
static inline char *golden_key(const char *name)
{
	char *text = golden("keys.json"), *ret;
	json *v = json_parse(text, strlen(text), LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);

	ret = strdup(json_string(json_get(v, name)));
	json_free(v);
	free(text);
	return ret;
}

#define auto_golden __attribute__((cleanup(golden_freep))) char
static inline void golden_freep(char **text)
{
	free(*text);
}

#endif
