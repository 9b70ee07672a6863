/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"

#include "worker/store.h"

static uint8_t mem[STORE_MESSAGE_MAX];

struct pair {
	int a, b;
};

static struct pair pair(void)
{
	int fd[2], size = 512 * 1024;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return (struct pair){ fd[0], fd[1] };
}

static void done(struct pair *p)
{
	close(p->a);
	close(p->b);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int get(struct pair *p, struct store_message *m, struct err *e)
{
	return store_receive(p->b, mem, sizeof(mem), false, m, e);
}

TEST(an_entry_arrives_with_its_name_and_bytes)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;

	assert_ok(store_send(p.a, STORE_PUT, "session/a", "x\0y", 3, -1, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(m.type, STORE_PUT);
	assert_string_equal(m.name, "session/a");
	assert_int_equal(m.len, 3);
	assert_memory_equal(m.data, "x\0y", 3);
	assert_int_equal(m.fd, -1);
	assert_int_equal(get(&p, &m, &e), 0);
}

TEST(a_descriptor_travels_along_and_is_close_on_exec)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	struct stat was, is;

	assert_ok(store_send(p.a, STORE_PUT, "keeper/a/b/1", "", 0, p.a, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_string_equal(m.name, "keeper/a/b/1");
	assert_int_equal(m.len, 0);
	assert_true(m.fd >= 0 && m.fd != p.a);
	assert_int_equal(fstat(p.a, &was), 0);
	assert_int_equal(fstat(m.fd, &is), 0);
	assert_int_equal(was.st_ino, is.st_ino);
	assert_true(fcntl(m.fd, F_GETFD) & FD_CLOEXEC);
	close(m.fd);
}

TEST(messages_without_a_name_are_all_bytes)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	uint32_t ms = 4000;

	assert_ok(store_send(p.a, STORE_LEASE, NULL, &ms, sizeof(ms), -1, &e), &e);
	assert_ok(store_send(p.a, STORE_BEAT, NULL, NULL, 0, -1, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(m.type, STORE_LEASE);
	assert_int_equal(m.len, sizeof(ms));
	assert_memory_equal(m.data, &ms, sizeof(ms));
	assert_string_equal(m.name, "");
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(m.type, STORE_BEAT);
	assert_int_equal(m.len, 0);
}

TEST(order_is_kept_and_what_was_sent_survives_the_sender)
{
	struct pair p = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	char name[16];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_ok(store_send(p.a, STORE_PUT, name, "d", 1, -1, &e), &e);
	}
	close(p.a);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(get(&p, &m, &e), 1);
		assert_string_equal(m.name, name);
	}
	assert_fails(get(&p, &m, &e), &e, ERR_LOST, "store: the other end is gone");
	assert_fails(store_receive(p.b, mem, sizeof(mem), true, &m, &e), &e, ERR_LOST,
	             "store: the other end is gone");
	close(p.b);
}

TEST(the_largest_session_fits)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	static uint8_t big[STORE_MESSAGE_MAX - 16];

	memset(big, 7, sizeof(big));
	assert_ok(store_send(p.a, STORE_PUT, "session/x", big, sizeof(big), -1, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(m.len, sizeof(big));
	assert_memory_equal(m.data, big, sizeof(big));
}

TEST(a_message_over_the_buffer_is_refused_and_its_descriptor_closed)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	int before = count_fds();

	assert_ok(store_send(p.a, STORE_PUT, "session/x", mem, 4000, p.a, &e), &e);
	assert_fails(store_receive(p.b, mem, 1000, false, &m, &e), &e, ERR_LIMIT,
	             "store: a message over 1000 bytes");
	assert_int_equal(count_fds(), before);
	/* What came after it is not lost. */
	assert_ok(store_send(p.a, STORE_BEAT, NULL, NULL, 0, -1, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(m.type, STORE_BEAT);
}

TEST(a_name_that_is_too_long_or_has_no_end_is_refused_and_its_descriptor_closed)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	int before = count_fds();
	char name[STORE_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[STORE_NAME_MAX] = 0;
	assert_ok(store_send(p.a, STORE_DEL, name, NULL, 0, -1, &e), &e);
	assert_int_equal(get(&p, &m, &e), 1);
	assert_int_equal(strlen(m.name), STORE_NAME_MAX);
	name[STORE_NAME_MAX] = 'n';
	name[STORE_NAME_MAX + 1] = 0;
	assert_ok(store_send(p.a, STORE_PUT, name, "d", 1, p.a, &e), &e);
	assert_fails(get(&p, &m, &e), &e, ERR_PROTO, "store: a message without a name");
	assert_int_equal(send(p.a, "Pabc", 4, 0), 4); /* no NUL */
	assert_fails(get(&p, &m, &e), &e, ERR_PROTO, "store: a message without a name");
	assert_int_equal(send(p.a, "D", 1, 0), 1);
	assert_fails(get(&p, &m, &e), &e, ERR_PROTO, "store: a message without a name");
	assert_int_equal(count_fds(), before);
}

TEST(of_two_descriptors_in_one_message_none_stays_open)
{
	struct pair p CLEANUP(done) = pair();
	struct store_message m;
	struct err e = ERR_INIT;
	int before = count_fds(), two[2] = { p.a, p.b };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(two))];
	} control;
	struct iovec iov = { (void *)(uintptr_t) "Pa\0", 3 };
	struct msghdr h = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = &control,
		            .msg_controllen = sizeof(control) };

	memset(&control, 0, sizeof(control));
	CMSG_FIRSTHDR(&h)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&h)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&h)->cmsg_len = CMSG_LEN(sizeof(two));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), two, sizeof(two));
	assert_int_equal(sendmsg(p.a, &h, 0), 3);
	assert_fails(get(&p, &m, &e), &e, ERR_PROTO,
	             "store: more than one descriptor in a message");
	assert_int_equal(count_fds(), before);
}

TEST(a_send_to_nobody_is_an_error_that_names_the_entry)
{
	struct pair p = pair();
	struct err e = ERR_INIT;

	close(p.b);
	assert_fails(store_send(p.a, STORE_PUT, "session/a", "d", 1, -1, &e), &e, ERR_SYS,
	             "store: send 'P' session/a: Broken pipe");
	close(p.a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_arrives_with_its_name_and_bytes),
		cmocka_unit_test(a_descriptor_travels_along_and_is_close_on_exec),
		cmocka_unit_test(messages_without_a_name_are_all_bytes),
		cmocka_unit_test(order_is_kept_and_what_was_sent_survives_the_sender),
		cmocka_unit_test(the_largest_session_fits),
		cmocka_unit_test(a_message_over_the_buffer_is_refused_and_its_descriptor_closed),
		cmocka_unit_test(
			a_name_that_is_too_long_or_has_no_end_is_refused_and_its_descriptor_closed),
		cmocka_unit_test(of_two_descriptors_in_one_message_none_stays_open),
		cmocka_unit_test(a_send_to_nobody_is_an_error_that_names_the_entry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
