/* SPDX-License-Identifier: Apache-2.0
 *
 * Requirements come out in one form, whatever they were written like, or are refused with the
 * reason. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "proxy/requirements.h"

static void assert_becomes(enum package_tool tool, const char *text, const char *want)
{
	struct requirements r = { .file = NULL };
	struct err e = ERR_INIT;

	if (requirements_add(&r, tool, text, &e) < 0)
		fail_msg("%s: %s", text, e.msg);
	assert_int_equal(r.n, 1);
	assert_string_equal(r.list[0], want);
	requirements_release(&r);
}

static void assert_no_requirement(enum package_tool tool, const char *text, const char *why)
{
	struct requirements r = { .file = NULL };
	struct err e = ERR_INIT;

	assert_int_equal(requirements_add(&r, tool, text, &e), -1);
	assert_int_equal(e.code, ERR_PIPELINE);
	assert_int_equal(r.n, 0);
	if (!strstr(e.msg, why))
		fail_msg("%s: %s", text, e.msg);
	requirements_release(&r);
}

TEST(a_requirement_of_pip_comes_out_in_one_form)
{
	static const char *const rows[][2] = {
		{ "pandas", "pandas" },
		{ "  pandas == 1.5.3\t", "pandas==1.5.3" },
		{ "Zope.Interface", "zope-interface" },
		{ "ruamel__yaml._clib>=0.2 , < 1", "ruamel-yaml-clib>=0.2,<1" },
		{ "a1!=1.*", "a1!=1.*" },
		{ "x===1.0+local", "x===1.0+local" },
		{ "x~=2.2", "x~=2.2" },
		{ "requests[ security ,Socks ] >= 2", "requests[security,socks]>=2" },
		{ "x ;python_version < '3.9'", "x; python_version < '3.9'" },
		{ "x==1;  sys_platform == \"linux\"  ", "x==1; sys_platform == \"linux\"" },
		{ "x @https://h/x-1.whl#sha256=0a", "x @ https://h/x-1.whl#sha256=0a" },
		{ "x[e] @ file:///w/x.whl ; os_name == 'posix'",
		  "x[e] @ file:///w/x.whl; os_name == 'posix'" },
		{ "x==1   --hash=sha256:0aB1 --hash=sha512:ff",
		  "x==1 --hash=sha256:0aB1 --hash=sha512:ff" },
		{ "x==1; os_name=='nt' --hash=sha256:00", "x==1; os_name=='nt' --hash=sha256:00" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_becomes(TOOL_PIP, rows[i][0], rows[i][1]);
}

TEST(a_requirement_of_npm_stays_as_it_is)
{
	static const char *const rows[] = {
		"left-pad",           "left-pad@1.3.0",           "left-pad@>=1.0.0 <2.0.0",
		"@scope/name",        "@scope/name@^1",           "x@file:vendor/x-1.0.0.tgz",
		"x@npm:y@1",          "x@git+https://h/x.git#v1", "JSONStream@latest",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_becomes(TOOL_NPM, rows[i], rows[i]);
}

TEST(what_is_no_requirement_is_refused_with_the_forms_there_are)
{
	static const char *const pip[] = {
		"",        "=1",      "x=1",       "x==",       "x==1,",         "x[",
		"x[a",     "x[a b]",  "x[]",       "-x",        "x-",            "x y",
		"x @",     "x==1 y",  "x;",        "x; ",       "./x.whl",       "x.whl/",
		"x==1 --", "x>1 --pre", "x --hash=sha256", "x --hash=sha256:", "$(x)", "x`y`",
	};
	static const char *const npm[] = { "",   "@x",  "@/y",    "@x/",   "x@",
		                           ".x", "x y", "../x.tgz", "x/y", "$(x)" };

	for (size_t i = 0; i < ARRAY_LEN(pip); i++)
		assert_no_requirement(TOOL_PIP, pip[i],
		                      pip[i][0] == '-' ? "an option" : "want NAME, NAME==VERSION");
	for (size_t i = 0; i < ARRAY_LEN(npm); i++)
		assert_no_requirement(TOOL_NPM, npm[i], "want NAME, NAME@VERSION");
}

/* The tools would take them for options, or for a line of their own. */
TEST(nothing_that_could_be_an_option_passes)
{
	assert_no_requirement(TOOL_PIP, "--index-url=http://x", "an option is no requirement");
	assert_no_requirement(TOOL_PIP, "  -r other.txt", "an option is no requirement");
	assert_no_requirement(TOOL_NPM, "--global", "an option is no requirement");
	assert_no_requirement(TOOL_PIP, "x\n--index-url http://x", "a line break");
	assert_no_requirement(TOOL_NPM, "x@1\r\n", "a line break");
	assert_no_requirement(TOOL_PIP, "x; os_name == 'a\nb'", "a line break");
}

TEST(every_bound_of_a_list_is_an_error)
{
	struct requirements r = { .file = NULL };
	char text[LIMIT_REQUIREMENT + 8];
	struct err e = ERR_INIT;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_no_requirement(TOOL_PIP, text, "more than 4000 bytes");
	for (int i = 0; i < LIMIT_REQUIREMENTS; i++) {
		snprintf(text, sizeof(text), "x%d", i);
		assert_ok(requirements_add(&r, TOOL_PIP, text, &e), &e);
	}
	assert_fails(requirements_add(&r, TOOL_PIP, "one-more", &e), &e, ERR_PIPELINE,
	             "more than 1000 requirements or 64 KiB of them");
	requirements_release(&r);
	memset(text, 'x', sizeof(text) - 1);
	text[3900] = 0;
	for (int i = 0; i < 16; i++)
		assert_ok(requirements_add(&r, TOOL_NPM, text, &e), &e);
	assert_true(requirements_add(&r, TOOL_NPM, text, &e) < 0);
	requirements_release(&r);
}

/* --- the digest --- */

static void digest_of(const char *const *texts, enum package_tool tool, char hex[SHA256_HEX])
{
	struct requirements r = { .file = NULL };
	struct err e = ERR_INIT;

	for (; *texts; texts++)
		assert_ok(requirements_add(&r, tool, *texts, &e), &e);
	requirements_sort(&r);
	requirements_digest(&r, tool, hex);
	requirements_release(&r);
}

TEST(the_same_requirements_however_written_have_the_same_digest)
{
	static const char *const one[] = { "numpy", "Pandas == 1.5.3", NULL };
	static const char *const same[] = { "pandas==1.5.3", "NumPy", "numpy", NULL };
	static const char *const other[] = { "pandas==1.5.4", "numpy", NULL };
	char a[SHA256_HEX], b[SHA256_HEX], c[SHA256_HEX], d[SHA256_HEX];

	digest_of(one, TOOL_PIP, a);
	digest_of(same, TOOL_PIP, b);
	digest_of(other, TOOL_PIP, c);
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	/* sha256 of "pip\nnumpy\npandas==1.5.3" */
	assert_string_equal(a,
	                    "e52237e6ea56498befefd80c69ea2523b9f2676a629856cbffa387838ae216fd");
	digest_of((const char *const[]){ "numpy", NULL }, TOOL_PIP, c);
	digest_of((const char *const[]){ "numpy", NULL }, TOOL_NPM, d);
	assert_string_not_equal(c, d);
}

/* --- files --- */

static int parse(struct requirements *r, enum package_tool tool, const char *text, struct buf *told,
                 struct err *e)
{
	*r = (struct requirements){ .file = NULL };
	buf_init(told, 65536);
	return requirements_parse(r, tool, text, strlen(text), "f", told, e);
}

static void assert_told(enum package_tool tool, const char *text, const char *want)
{
	struct requirements r;
	struct err e = ERR_INIT;
	struct buf told;

	assert_int_equal(parse(&r, tool, text, &told, &e), -1);
	assert_int_equal(e.code, ERR_PIPELINE);
	if (strncmp(buf_cstr(&told, NULL), want, strlen(want)) != 0)
		fail_msg("%s", buf_cstr(&told, NULL));
	requirements_release(&r);
	buf_release(&told);
}

TEST(lines_of_a_requirements_file_may_be_empty_go_on_and_have_comments)
{
	struct requirements r;
	struct err e = ERR_INIT;
	struct buf told;

	assert_ok(parse(&r, TOOL_PIP,
	                "# all\r\n\r\n  \nb==1  # why\r\n"
	                "a @ https://h/a#egg=a\n"
	                "c==1 \\\n    --hash=sha256:00 \\\r\n  --hash=sha256:11\n"
	                "d\\",
	                &told, &e),
	          &e);
	requirements_sort(&r);
	assert_int_equal(r.n, 4);
	assert_string_equal(r.list[0], "a @ https://h/a#egg=a");
	assert_string_equal(r.list[1], "b==1");
	assert_string_equal(r.list[2], "c==1 --hash=sha256:00 --hash=sha256:11");
	assert_string_equal(r.list[3], "d");
	requirements_release(&r);
	buf_release(&told);
	assert_ok(parse(&r, TOOL_PIP, "", &told, &e), &e);
	assert_int_equal(r.n, 0);
	buf_release(&told);
}

TEST(every_mistake_in_a_file_is_told_with_its_line)
{
	struct requirements r;
	struct err e = ERR_INIT;
	struct buf told;

	assert_int_equal(parse(&r, TOOL_PIP, "ok\n-r x\n\nc==1 \\\n y\nz=1\n", &told, &e), -1);
	assert_string_equal(
		buf_cstr(&told, NULL),
		"f:2: '-r x': an option is no requirement; what pip is to know goes into its "
		"variables (--env, --pass-env)\n"
		"f:4: 'c==1   y' is no requirement of pip: want NAME, NAME==VERSION, "
		"NAME[EXTRA]>=VERSION; MARKER or NAME @ URL\n"
		"f:6: 'z=1' is no requirement of pip: want NAME, NAME==VERSION, "
		"NAME[EXTRA]>=VERSION; MARKER or NAME @ URL\n");
	assert_non_null(strstr(e.msg, "(and 2 more)"));
	requirements_release(&r);
	buf_release(&told);
}

TEST(the_dependencies_of_a_package_json_are_its_requirements)
{
	struct requirements r;
	struct err e = ERR_INIT;
	struct buf told;

	assert_ok(parse(&r, TOOL_NPM,
	                "{\"name\":\"p\",\n\"dependencies\":{\"b\":\"^1.0.0\",\"@s/a\":\"\"},\n"
	                "\"devDependencies\":{\"c\":\"1\"}}",
	                &told, &e),
	          &e);
	requirements_sort(&r);
	assert_int_equal(r.n, 2);
	assert_string_equal(r.list[0], "@s/a");
	assert_string_equal(r.list[1], "b@^1.0.0");
	requirements_release(&r);
	buf_release(&told);
	assert_told(TOOL_NPM, "{\"name\":\"p\"}", "f:1: want an object with 'dependencies'");
	assert_told(TOOL_NPM, "[1]", "f:1: want an object with 'dependencies'");
	assert_told(TOOL_NPM, "{\"dependencies\":{\n\"x\":1}}",
	            "f:2: dependencies: x: want a string, got a number");
	assert_told(TOOL_NPM, "{\"dependencies\":{\n\n\"--global\":\"1\"}}",
	            "f:3: '--global@1': an option");
	assert_told(TOOL_NPM, "{\"dependencies\":", "f:2: no YAML: ");
}

TEST(a_file_that_is_no_text_is_refused)
{
	struct requirements r = { .file = NULL };
	struct err e = ERR_INIT;

	assert_fails(requirements_parse(&r, TOOL_PIP, "a\0b", 3, "f", NULL, &e), &e, ERR_PIPELINE,
	             "f:1: a NUL character: this is no text");
	requirements_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_requirement_of_pip_comes_out_in_one_form),
		cmocka_unit_test(a_requirement_of_npm_stays_as_it_is),
		cmocka_unit_test(what_is_no_requirement_is_refused_with_the_forms_there_are),
		cmocka_unit_test(nothing_that_could_be_an_option_passes),
		cmocka_unit_test(every_bound_of_a_list_is_an_error),
		cmocka_unit_test(the_same_requirements_however_written_have_the_same_digest),
		cmocka_unit_test(lines_of_a_requirements_file_may_be_empty_go_on_and_have_comments),
		cmocka_unit_test(every_mistake_in_a_file_is_told_with_its_line),
		cmocka_unit_test(the_dependencies_of_a_package_json_are_its_requirements),
		cmocka_unit_test(a_file_that_is_no_text_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
