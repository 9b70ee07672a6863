/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/last_words.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL 4096

void last_words(int fd, off_t from, char *out, size_t size)
{
	char tail[TAIL];
	struct stat st;
	off_t at;
	ssize_t n;
	size_t begin, end;

	out[0] = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	at = st.st_size - TAIL > from ? st.st_size - TAIL : from;
	n = pread(fd, tail, sizeof(tail), at);
	end = n > 0 ? (size_t)n : 0;
	while (end && (tail[end - 1] == '\n' || tail[end - 1] == ' '))
		end--;
	for (begin = end; begin && tail[begin - 1] != '\n'; begin--)
		;
	if (end - begin > size - 1)
		end = begin + size - 1;
	memcpy(out, tail + begin, end - begin);
	out[end - begin] = 0;
	for (char *c = out; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

void last_words_explain(int fd, off_t from, struct err *e)
{
	char words[200];
	struct err was = *e;

	if (!was.code)
		return;
	last_words(fd, from, words, sizeof(words));
	err_set(e, was.code == ERR_LOST ? ERR_PROVIDER : was.code, 0,
	        "%.150s; the worker never got ready, %s%s", was.msg,
	        words[0] ? "its last words: " : "and it said nothing", words);
}
