// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that does to its memory what a test tells it.
 *
 *     ksmload SOCKET NAME
 *
 * It connects to the test's Unix socket, says "NAME PID", and then obeys one command
 * per line, answering each with "ok VALUE" or "error MESSAGE" when it is done. Children
 * (fork, clonevm) and new programs (exec) connect anew, so that every process has a
 * connection of its own. tests/workload.py is the other end.
 *
 * Only the first eight bytes of a page are ever written, so pages with equal first
 * words are equal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "command.h"
#include "serve.h"

static const char *socket_path;

int exec_as(const char *name)
{
    return execl("/proc/self/exe", "ksmload", socket_path, name, NULL);
}

static void answer(int connection, struct command *c, int result)
{
    char text[128];
    int length = result ? snprintf(text, sizeof(text), "error %s\n", strerror(errno))
                        : snprintf(text, sizeof(text), "ok %lu\n", c->value);

    if (write(connection, text, length) != length)
        _exit(1);
}

static int connect_as(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    char hello[64];
    int length;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)))
        _exit(2);
    prctl(PR_SET_NAME, name);
    length = snprintf(hello, sizeof(hello), "%s %d\n", name, getpid());
    if (write(connection, hello, length) != length)
        _exit(2);
    return connection;
}

/* One packet is one command. Ends with the connection, so that nothing outlives its test. */
void serve(const char *name)
{
    int connection = connect_as(name);
    char line[256];
    ssize_t length;

    while ((length = read(connection, line, sizeof(line) - 1)) > 0) {
        struct command c = {.count = 0};
        char *rest = line;

        line[length] = '\0';
        while (c.count < MAX_WORDS && (c.words[c.count] = strsep(&rest, " \n")))
            if (*c.words[c.count])
                c.count++;
        answer(connection, &c, obey(&c));
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    socket_path = argv[1];
    /* Children that end are nobody's business but the test's. */
    signal(SIGCHLD, SIG_IGN);
    serve(argv[2]);
    return 0;
}
