/* Starting peers, and their protocol of lines. A peer that dies, hangs or answers something else is gone for good, and
 * `why` says so; nothing that it does ends this program. */
#include "cli/bench_peer.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "cli/cli.h"

/* ---- Its end ------------------------------------------------------------------------------------------------ */

static int end_process(qd_bench_peer *p) {
    int status = 0;
    /* Its group: children that it started go with it. */
    kill(-p->pid, SIGKILL);
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {}
    close(p->fd);
    p->pid = 0;
    p->size = 0;
    return status;
}

void qd_bench_peer_end(qd_bench_peer *p) {
    if (p->pid > 0) end_process(p);
}

static bool lose(qd_bench_peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool lose(qd_bench_peer *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(p->why, sizeof p->why, format, list);
    va_end(list);
    qd_bench_peer_end(p);
    return false;
}

/* Its end of the line is closed: it has ended, or is about to. */
static bool lose_dead(qd_bench_peer *p) {
    enum { TRIES = 100 };
    int status = 0;
    /* A moment to end by itself, for its exit code. */
    for (int i = 0; i < TRIES && waitpid(p->pid, &status, WNOHANG) == 0; i++) {
        if (i == TRIES - 1) return lose(p, "it closed its output");
        poll(NULL, 0, 10);
    }
    kill(-p->pid, SIGKILL); /* children of it */
    close(p->fd);
    p->pid = 0;
    p->size = 0;
    if (WIFSIGNALED(status)) return lose(p, "it died of signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return lose(p, "it ended with exit code %d", WEXITSTATUS(status));
}

/* ---- Lines -------------------------------------------------------------------------------------------------- */

/* Takes the first whole line of p->text. */
static bool take_line(qd_bench_peer *p, char line[QD_BENCH_PEER_LINE]) {
    const char *end = memchr(p->text, '\n', p->size);
    if (!end) return false;
    const size_t length = (size_t)(end - p->text);
    memcpy(line, p->text, length);
    line[length] = 0;
    p->size -= length + 1;
    memmove(p->text, end + 1, p->size);
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 32 || (unsigned char)*c > 126) *c = '?';
    }
    return true;
}

static bool read_line(qd_bench_peer *p, double patience, char line[QD_BENCH_PEER_LINE]) {
    const double until = qd_cli_seconds() + patience;
    while (!take_line(p, line)) {
        if (p->size == sizeof p->text)
            return lose(p, "it does not speak in lines of at most %zu bytes", sizeof p->text);
        if (qd_cli_stopped()) return lose(p, "stopped");
        if (qd_cli_seconds() > until) return lose(p, "it did not answer within %g seconds", patience);
        struct pollfd wait = {.fd = p->fd, .events = POLLIN};
        if (poll(&wait, 1, 100) <= 0) continue;
        const ssize_t n = recv(p->fd, p->text + p->size, sizeof p->text - p->size, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) return lose_dead(p);
        if (n > 0) p->size += (size_t)n;
    }
    return true;
}

/* Sends a line and waits for the one that answers it. The peer runs only meanwhile. */
static bool ask(qd_bench_peer *p, const char *request, double patience, char answer[QD_BENCH_PEER_LINE]) {
    p->why[0] = 0;
    kill(-p->pid, SIGCONT);
    const size_t size = strlen(request);
    /* A line is far smaller than a socket's buffer. MSG_NOSIGNAL: a dead peer is no reason to die. */
    if (send(p->fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) return lose_dead(p);
    if (!read_line(p, patience, answer)) return false;
    kill(-p->pid, SIGSTOP);
    return true;
}

/* What follows `word` and a space in the answer, or NULL. */
static const char *after(const char *answer, const char *word) {
    const size_t size = strlen(word);
    if (strncmp(answer, word, size) != 0 || (answer[size] && answer[size] != ' ')) return NULL;
    return answer[size] ? answer + size + 1 : answer + size;
}

/* ---- Requests ----------------------------------------------------------------------------------------------- */

bool qd_bench_peer_start(qd_bench_peer *p, const char *path, unsigned threads, double patience) {
    int ends[2];
    char count[16], line[QD_BENCH_PEER_LINE];
    snprintf(count, sizeof count, "%u", threads);
    p->why[0] = 0;
    p->pid = 0;
    p->size = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return lose(p, "%s", strerror(errno));
    const pid_t pid = fork();
    if (pid == 0) {
        /* Only what is safe after a fork of a program with threads. */
        setpgid(0, 0);
#ifdef __linux__
        prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
        dup2(ends[1], STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        execl(path, path, count, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return lose(p, "%s", strerror(errno));
    }
    setpgid(pid, pid); /* whoever is first; the other fails */
    p->pid = pid;
    p->fd = ends[0];
    if (!read_line(p, patience, line)) return false;
    int used = 0;
    if (sscanf(line, "qdot-peer 1 %47s %47s%n", p->name, p->version, &used) != 2 || line[used])
        return lose(p, "it greets with '%.60s', not with 'qdot-peer 1 NAME VERSION'", line);
    kill(-p->pid, SIGSTOP);
    return true;
}

bool qd_bench_peer_prepare(qd_bench_peer *p, const char *work, double patience, double *mark) {
    char request[QD_BENCH_PEER_LINE], line[QD_BENCH_PEER_LINE];
    *mark = NAN;
    if (p->pid == 0) return false;
    if (snprintf(request, sizeof request, "work %s\n", work) >= (int)sizeof request)
        return lose(p, "the work has too long a name");
    if (!ask(p, request, patience, line)) return false;
    const char *cannot = after(line, "cannot"), *ready = after(line, "ready");
    if (cannot) {
        snprintf(p->why, sizeof p->why, "%.200s", cannot);
        return false;
    }
    char *end = line;
    if (ready && *ready) *mark = strtod(ready, &end);
    if (!ready || (*ready && (end == ready || *end))) return lose(p, "it answers 'work' with '%.60s'", line);
    return true;
}

bool qd_bench_peer_run(qd_bench_peer *p, int64_t passes, double patience, double *seconds) {
    char request[64], line[QD_BENCH_PEER_LINE];
    if (p->pid == 0) return false;
    snprintf(request, sizeof request, "run %lld\n", (long long)passes);
    const double start = qd_cli_seconds();
    if (!ask(p, request, patience, line)) return false;
    const double most = qd_cli_seconds() - start;
    const char *told = after(line, "seconds");
    char *end = line;
    *seconds = told ? strtod(told, &end) : 0;
    if (!told || end == told || *end) return lose(p, "it answers 'run' with '%.60s'", line);
    if (!(*seconds > 0 && *seconds <= most))
        return lose(p, "it says that it took %g seconds, but the answer was there after %g", *seconds, most);
    return true;
}

double qd_bench_peer_cpu_seconds(const qd_bench_peer *p) {
    char path[64], text[1024] = "";
    unsigned long long ticks[4];
    if (p->pid == 0) return 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)p->pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    const size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[size] = 0;
    /* Fields 14 to 17: user and system time, and those of children; the name, field 2, ends at the last bracket. */
    const char *fields = strrchr(text, ')');
    if (!fields || sscanf(fields + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %llu %llu", &ticks[0],
                          &ticks[1], &ticks[2], &ticks[3]) != 4)
        return 0;
    return (double)(ticks[0] + ticks[1] + ticks[2] + ticks[3]) / (double)sysconf(_SC_CLK_TCK);
}
