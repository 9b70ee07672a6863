/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <sys/stat.h>

#include "protocol/base/cleanup.h"
#include "proxy/plan.h"

/* As the compiler writes it: explicit begin and end, keys sorted. */
#define HEAD                                                                                      \
	"---\n"                                                                                   \
	"meta: {generated_at: '2026-01-01T00:00:00Z', oml_version: 0.1.0, run_id: '${run_id}'}\n" \
	"name: demo\n"                                                                            \
	"pipeline: {fingerprints: {oml_fp: 'sha256:00'}, id: demo, version: 0.1.0}\n"             \
	"steps:\n"
#define STEP(id, driver, cfg, needs)                                                    \
	"- cfg_path: " cfg "\n  component: " driver "\n  driver: " driver "\n  id: " id \
	"\n  needs: " needs "\n"

struct place {
	struct temp_dir d;
	char file[300];
};

static struct place place(const char *text)
{
	struct place p = { .d = temp_dir() };
	struct err e = ERR_INIT;

	snprintf(p.file, sizeof(p.file), "%s/manifest.yaml", p.d.path);
	mkdirat(p.d.fd, "cfg", 0700);
	assert_ok(fs_write(p.d.fd, "manifest.yaml", text, strlen(text), 0600, false, &e), &e);
	return p;
}

static void place_release(struct place *p)
{
	temp_dir_release(&p->d);
}

static void put(struct place *p, const char *path, const char *text)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write(p->d.fd, path, text, strlen(text), 0600, false, &e), &e);
}

static void without(const char *text, const char *word, struct buf *out)
{
	const char *hit;

	for (; (hit = strstr(text, word)); text = hit + strlen(word))
		buf_put(out, text, (size_t)(hit - text), NULL);
	buf_puts(out, text, NULL);
}

/* All mistakes, without the name of the file. */
static void wrong(const struct place *at, enum err_code code, const char *want)
{
	struct err e = ERR_INIT;
	struct buf all CLEANUP(buf_release), got CLEANUP(buf_release);
	struct plan *p;

	buf_init(&all, 65536);
	buf_init(&got, 65536);
	p = plan_load(at->file, &all, &e);
	assert_null(p);
	without(buf_cstr(&all, &e), at->d.path, &got);
	buf_reset(&all);
	without(buf_cstr(&got, &e), "shell, exec", &all); /* the drivers that there are */
	assert_string_equal(buf_cstr(&all, &e), want);
	assert_int_equal(e.code, code);
}

TEST(a_compiled_manifest_becomes_a_plan_with_the_configs_of_its_cfg_files)
{
	struct place at CLEANUP(place_release) =
		place(HEAD STEP("one", "shell", "cfg/one.json", "[]")
	                      STEP("two", "exec", "cfg/two.json", "\n  - one") "...\n");
	struct err e = ERR_INIT;
	struct plan *p;

	put(&at, "cfg/one.json",
	    "{\"component\":\"shell\",\"mode\":\"extract\",\"script\":\"echo ${params.x}\"}");
	put(&at, "cfg/two.json", "{\"argv\":[\"cat\"],\"component\":\"exec\",\"mode\":\"write\"}");
	p = plan_load(at.file, NULL, &e);
	if (!p)
		fail_msg("%s", e.msg);
	assert_string_equal(p->name, "demo");
	assert_string_equal(p->steps[0].config, "{\"script\":\"echo ${params.x}\"}");
	assert_string_equal(p->steps[1].driver, "exec");
	assert_string_equal(p->steps[1].config, "{\"argv\":[\"cat\"]}");
	assert_int_equal(p->steps[1].n_needs, 1);
	/* For attach: it reads the plan when cfg/ is far away. */
	assert_null(strstr(p->text, "cfg_path"));
	plan_free(p);
}

TEST(configs_may_stand_in_the_manifest_itself)
{
	static const char text[] = "pipeline: {id: inline}\nsteps:\n"
				   "- {id: a, driver: shell, mode: write, config: {script: x}}\n";
	struct err e = ERR_INIT;
	struct plan *p = plan_parse(text, strlen(text), "m.yaml", NULL, &e);

	assert_non_null(p);
	assert_string_equal(p->name, "inline");
	assert_string_equal(p->steps[0].config, "{\"script\":\"x\"}");
	plan_free(p);
}

TEST(all_missing_cfg_files_are_named_with_the_directory_that_was_searched)
{
	struct place at CLEANUP(place_release) = place(HEAD STEP(
		"a", "shell", "cfg/a.json", "[]") STEP("b", "shell", "cfg/b.json", "[a]"));

	wrong(&at, ERR_PIPELINE,
	      "/manifest.yaml:6: step 'a': cfg_path: cfg/a.json: open: No such file or directory "
	      "(in /)\n"
	      "/manifest.yaml:11: step 'b': cfg_path: cfg/b.json: open: No such file or directory "
	      "(in /)\n");
}

TEST(a_cfg_path_stays_in_the_manifests_directory_whatever_dots_and_links_say)
{
	struct place at CLEANUP(place_release) =
		place(HEAD STEP("a", "shell", "../../../etc/passwd", "[]")
	                      STEP("b", "shell", "/etc/passwd", "[]")
	                              STEP("c", "shell", "cfg/c.json", "[]")
	                                      STEP("d", "shell", "cfg", "[]"));

	assert_int_equal(symlinkat("/etc/passwd", at.d.fd, "cfg/c.json"), 0);
	wrong(&at, ERR_PIPELINE,
	      "/manifest.yaml:6: step 'a': cfg_path: want a path below the manifest's directory, "
	      "like cfg/STEP.json\n"
	      "/manifest.yaml:11: step 'b': cfg_path: want a path below the manifest's directory, "
	      "like cfg/STEP.json\n"
	      "/manifest.yaml:16: step 'c': cfg_path: cfg/c.json: a link out of the manifest's "
	      "directory (in /)\n"
	      "/manifest.yaml:21: step 'd': cfg_path: cfg: not a regular file (in /)\n");
}

TEST(mistakes_in_cfg_files_are_told_with_the_step_that_names_them)
{
	struct place at CLEANUP(place_release) = place(
		HEAD STEP("a", "shell", "cfg/a.json", "[]") STEP("b", "shell", "cfg/b.json", "[a]")
			STEP("c", "duckdb.processor", "cfg/c.json", "[b]") "  tasks: 1\n");

	put(&at, "cfg/a.json", "{\"script\":\"x\",\n\"script\":\"y\"}");
	put(&at, "cfg/b.json", "{\"component\":\"exec\",\"mode\":\"wrote\",\"scrip\":\"x\"}");
	put(&at, "cfg/c.json", "{\"connection\":\"@duckdb.x\",\"query\":\"select 1\"}");
	wrong(&at, ERR_PIPELINE,
	      "/manifest.yaml:6: step 'a': cfg/a.json:2: duplicate key 'script' (first in line 1)\n"
	      "/manifest.yaml:11: step 'b': component: it is 'shell', its cfg says 'exec'\n"
	      "/manifest.yaml:11: step 'b': mode: want one of extract, read, write, transform (did "
	      "you mean 'write'?)\n"
	      "/manifest.yaml:11: step 'b': config: unknown key 'scrip' (did you mean 'script'?)\n"
	      "/manifest.yaml:11: step 'b': config: 'script' is missing\n"
	      "/manifest.yaml:16: step 'c': connection '@duckdb.x': not built yet\n"
	      "/manifest.yaml:18: step 'c': unknown driver 'duckdb.processor' (offered: )\n"
	      "/manifest.yaml:21: step 'c': unknown key 'tasks'\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_compiled_manifest_becomes_a_plan_with_the_configs_of_its_cfg_files),
		cmocka_unit_test(configs_may_stand_in_the_manifest_itself),
		cmocka_unit_test(
			all_missing_cfg_files_are_named_with_the_directory_that_was_searched),
		cmocka_unit_test(
			a_cfg_path_stays_in_the_manifests_directory_whatever_dots_and_links_say),
		cmocka_unit_test(mistakes_in_cfg_files_are_told_with_the_step_that_names_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
