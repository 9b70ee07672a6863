/* SPDX-License-Identifier: Apache-2.0
 *
 * Dockerfiles as steps, and what cannot be translated. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/dockerfile.h"

static const char *const verbs[] = { "ENV", "RUN", "COPY", "WORKDIR", "USER" };

/* "FROM image\nVERB a|b|c\n..." of what was read. */
static char *steps_of(const char *text)
{
	struct dockerfile d CLEANUP(dockerfile_release);
	struct err e = ERR_INIT;
	struct buf b;
	char *ret;

	if (dockerfile_parse(text, strlen(text), "D", &d, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	buf_init(&b, 65536);
	buf_printf(&b, &e, "FROM %s\n", d.from);
	for (size_t i = 0; i < d.n; i++) {
		buf_printf(&b, &e, "%s %s", verbs[d.steps[i].verb], d.steps[i].args[0]);
		for (size_t k = 1; k < 4 && d.steps[i].args[k]; k++)
			buf_printf(&b, &e, "|%s", d.steps[i].args[k]);
		buf_putc(&b, '\n', &e);
	}
	ret = buf_take_str(&b, &e);
	buf_release(&b);
	return ret;
}

static void assert_steps(const char *text, const char *want)
{
	auto_free char *got = steps_of(text);

	assert_string_equal(got, want);
}

TEST(each_instruction_is_a_step)
{
	assert_steps("FROM debian:12-slim\n"
		     "ENV A=1 B=\"two words\" C=it\\ is PATH=/x:$PATH\n"
		     "env OLD the rest of it\n"
		     "RUN echo 'a  b' && true\n"
		     "COPY --chmod=0755 --chown=me:us a b/c /opt/\n"
		     "COPY x /y\n"
		     "WORKDIR /srv\n"
		     "USER nobody",
		     "FROM debian:12-slim\n"
		     "ENV A|1\nENV B|two words\nENV C|it is\nENV PATH|/x:$PATH\n"
		     "ENV OLD|the rest of it\n"
		     "RUN echo 'a  b' && true\n"
		     "COPY a|/opt/|me:us|0755\nCOPY b/c|/opt/|me:us|0755\n"
		     "COPY x|/y|root:root\n"
		     "WORKDIR /srv\n"
		     "USER nobody\n");
}

TEST(lines_go_on_with_comments_and_blanks_between)
{
	assert_steps("# what it is\n\nFROM a\nRUN one \\\n# between\n\n    && two \\  \n"
		     "  && three\n"
		     "RUN last \\\n",
		     "FROM a\nRUN one     && two   && three\nRUN last\n");
	assert_steps("\r\nFROM a\r\nRUN b\r\n", "FROM a\nRUN b\n");
}

static void assert_refused(const char *text, const char *want)
{
	struct dockerfile d CLEANUP(dockerfile_release);
	struct err e = ERR_INIT;

	assert_int_equal(dockerfile_parse(text, strlen(text), "D", &d, NULL, &e), -1);
	assert_string_equal(e.msg, want);
	assert_int_equal(e.code, ERR_PIPELINE);
}

TEST(what_cannot_be_translated_is_refused_with_its_line)
{
	static const char *const rows[][2] = {
		{ "", "D:1: there is no FROM" },
		{ "RUN x\n", "D:1: RUN before FROM" },
		{ "FROM a AS b\n", "D:1: FROM ... AS: only one stage can be translated" },
		{ "FROM a\nFROM b\n", "D:2: a second FROM: only one stage can be translated" },
		{ "FROM --platform=x a\n", "D:1: FROM --platform=x: sandboxes have one platform" },
		{ "FROM $BASE\n", "D:1: FROM '$BASE': variables are not filled in there" },
		{ "FROM a\n\nARG X=1\n", "D:3: ARG cannot be translated: use ENV" },
		{ "FROM a\nADD x y\n",
		  "D:2: ADD cannot be translated: use COPY, or RUN with what fetches it" },
		{ "FROM a\nCMD [\"x\"]\n",
		  "D:2: CMD cannot be translated: farstep starts the worker itself" },
		{ "FROM a\nRUN [\"x\", \"y\"]\n",
		  "D:2: RUN [...]: write it as a line for the shell" },
		{ "FROM a\nRUN --mount=type=cache x\n", "D:2: RUN --mount: cannot be translated" },
		{ "FROM a\nRUN <<EOT\nx\nEOT\n", "D:2: RUN: here-documents cannot be translated" },
		{ "FROM a\nCOPY --from=b c d\n", "D:2: COPY --from=b: cannot be translated" },
		{ "FROM a\nCOPY --chmod=u+x c d\n", "D:2: COPY --chmod=u+x: cannot be translated" },
		{ "FROM a\nCOPY [\"c\", \"d\"]\n",
		  "D:2: COPY [...]: write it as COPY SOURCE... DESTINATION" },
		{ "FROM a\nCOPY c\n", "D:2: COPY needs a source and a destination" },
		{ "FROM a\nCOPY c d e\n",
		  "D:2: COPY of several sources: the destination 'e' must end with /" },
		{ "FROM a\nCOPY /etc/x d\n",
		  "D:2: COPY '/etc/x': want a path relative to the Dockerfile" },
		{ "FROM a\nCOPY x/../../y d\n",
		  "D:2: COPY 'x/../../y': leads out of the Dockerfile's directory" },
		{ "FROM a\nCOPY *.c d/\n",
		  "D:2: COPY '*.c': patterns cannot be translated; name the directory" },
		{ "FROM a\nCOPY x $HOME\n",
		  "D:2: COPY '$HOME': variables are not filled in there" },
		{ "FROM a\nWORKDIR a b\n", "D:2: WORKDIR needs one word" },
		{ "FROM a\nUSER me:us\n", "D:2: USER 'me:us': a group cannot be given" },
		{ "FROM a\nENV 1A=x\n", "D:2: ENV '1A=x': want NAME=VALUE" },
		{ "FROM a\nENV A\n", "D:2: ENV: want NAME=VALUE" },
		{ "FROM a\nENV A=\"x\n", "D:2: a \" that is not closed" },
		{ "FROM a\nRNU x\n", "D:2: unknown instruction 'RNU'" },
		{ "# escape=`\nFROM a\n", "D:1: # escape: cannot be translated" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_refused(rows[i][0], rows[i][1]);
}

TEST(all_mistakes_are_told_at_once)
{
	static const char text[] = "FROM a\nARG b\nRUN x \\\n  y\nVOLUME z\n";
	struct dockerfile d CLEANUP(dockerfile_release);
	struct err e = ERR_INIT;
	struct buf all CLEANUP(buf_release);

	buf_init(&all, 4096);
	assert_int_equal(dockerfile_parse(text, strlen(text), "D", &d, &all, &e), -1);
	assert_string_equal(buf_cstr(&all, &e),
			    "D:2: ARG cannot be translated: use ENV\n"
			    "D:5: VOLUME cannot be translated: a sandbox has one disk\n");
	assert_string_equal(e.msg, "D:2: ARG cannot be translated: use ENV");
}

TEST(a_file_has_its_bounds)
{
	struct dockerfile d CLEANUP(dockerfile_release);
	struct dockerfile large CLEANUP(dockerfile_release);
	auto_free char *text = calloc(1, DOCKERFILE_MAX + 2);
	struct err e = ERR_INIT;
	size_t n = 7;

	memcpy(text, "FROM a\n", 7);
	for (int i = 0; i <= DOCKERFILE_STEPS; i++, n += 6)
		memcpy(text + n, "RUN x\n", 6);
	assert_int_equal(dockerfile_parse(text, n, "D", &d, NULL, &e), -1);
	assert_string_equal(e.msg, "D:202: more than 200 steps");
	assert_int_equal(dockerfile_parse(text, DOCKERFILE_MAX + 1, "D", &large, NULL, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
}

TEST(cut_anywhere_it_is_read_or_refused_and_never_read_past)
{
	static const char text[] = "FROM a\nENV A=\"b c\" D=e\\ f\n"
				   "COPY --chmod=7 x 'y z' /d/\nRUN \\\n g\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		auto_free char *part = malloc(n ? n : 1);
		struct dockerfile d CLEANUP(dockerfile_release);
		struct err e = ERR_INIT;

		memcpy(part, text, n);
		assert_true(dockerfile_parse(part, n, "D", &d, NULL, &e) == 0 || e.code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_instruction_is_a_step),
		cmocka_unit_test(lines_go_on_with_comments_and_blanks_between),
		cmocka_unit_test(what_cannot_be_translated_is_refused_with_its_line),
		cmocka_unit_test(all_mistakes_are_told_at_once),
		cmocka_unit_test(a_file_has_its_bounds),
		cmocka_unit_test(cut_anywhere_it_is_read_or_refused_and_never_read_past),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
