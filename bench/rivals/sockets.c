/*
 * libzmq measured the way an application uses it, for comparison with tidings.
 *
 * One message per call, default high-water marks, one I/O thread, no tuning. Messages leave with
 * zmq_send from a buffer and arrive with zmq_msg_recv, which hands the octets over without a copy.
 * Every command prints one line of JSON; a binding command first prints where it listens.
 *
 *   sockets push ENDPOINT SIZE COUNT      connect, send COUNT messages, wait until they are flushed
 *   sockets pull ENDPOINT SIZE COUNT      bind, receive; timed from the first message to the last
 *   sockets rep ENDPOINT                  bind, send every request back until one is "END"
 *   sockets req ENDPOINT SIZE COUNT       connect, COUNT/10 round trips unrecorded, COUNT recorded, "END"
 *   sockets inproc-throughput SIZE COUNT  push and pull as two threads of one context
 *   sockets inproc-latency SIZE COUNT     req and rep as two threads of one context
 *   sockets --version                     libzmq's version
 *
 * CPU seconds are the process's own (getrusage) over the measured span; for push, from before the first
 * message until all is flushed, and for rep, from the first request to "END".
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

/* A run that hangs ends by SIGALRM rather than staying behind; no real run comes near this. */
static const unsigned longest_run_seconds = 300;

static const char end_of_requests[] = "END";
static const char inproc_endpoint[] = "inproc://bench";

struct usage {
    double user;
    double system;
};

struct load {
    void *context;
    const char *endpoint;
    size_t size;
    uint64_t count;
};

/* Ends */

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("sockets: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void fail_zmq(const char *what, const char *subject)
{
    fail("%s %s: %s", what, subject, zmq_strerror(errno));
}

/* Clocks */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static struct usage usage_now(void)
{
    struct rusage spent;
    getrusage(RUSAGE_SELF, &spent);
    return (struct usage){seconds_of(spent.ru_utime), seconds_of(spent.ru_stime)};
}

static struct usage usage_since(struct usage before)
{
    struct usage now = usage_now();
    return (struct usage){now.user - before.user, now.system - before.system};
}

/* Sockets */

static void *open_socket(void *context, int type)
{
    void *socket = zmq_socket(context, type);
    if (!socket)
        fail_zmq("opening", "a socket");
    return socket;
}

static void *open_bound(void *context, int type, const char *endpoint)
{
    void *socket = open_socket(context, type);
    if (zmq_bind(socket, endpoint) != 0)
        fail_zmq("binding to", endpoint);
    return socket;
}

static void *open_connected(void *context, int type, const char *endpoint)
{
    void *socket = open_socket(context, type);
    if (zmq_connect(socket, endpoint) != 0)
        fail_zmq("connecting to", endpoint);
    return socket;
}

static void announce(void *socket)
{
    char endpoint[512];
    size_t length = sizeof endpoint;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &length) != 0)
        fail_zmq("asking for", "the bound endpoint");
    printf("listening %s\n", endpoint);
    fflush(stdout);
}

static void send_message(void *socket, const void *octets, size_t size)
{
    if (zmq_send(socket, octets, size, 0) < 0)
        fail_zmq("sending", "a message");
}

static void receive_message(void *socket, zmq_msg_t *message)
{
    if (zmq_msg_recv(message, socket, 0) < 0)
        fail_zmq("receiving", "a message");
}

static void receive_sized(void *socket, zmq_msg_t *message, size_t size)
{
    receive_message(socket, message);
    if (zmq_msg_size(message) != size)
        fail("received %zu octets, expected %zu", zmq_msg_size(message), size);
}

static char *filled_body(size_t size)
{
    char *body = malloc(size ? size : 1);
    if (!body)
        fail("no memory for a message of %zu octets", size);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)(i % 251);
    return body;
}

/* Reports: one JSON object, begun and ended here */

static void report_begin(const char *role)
{
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf("{\"role\":\"%s\",\"libzmq\":\"%d.%d.%d\"", role, major, minor, patch);
}

static void report_end(struct usage cpu)
{
    printf(",\"cpu_user\":%.6f,\"cpu_system\":%.6f}\n", cpu.user, cpu.system);
    fflush(stdout);
}

static void report_messages(size_t size, uint64_t count)
{
    printf(",\"size\":%zu,\"messages\":%llu,\"octets\":%llu", size, (unsigned long long)count,
           (unsigned long long)(count * size));
}

/* Throughput */

static void push_messages(void *socket, size_t size, uint64_t count)
{
    char *body = filled_body(size);
    for (uint64_t i = 0; i < count; i++)
        send_message(socket, body, size);
    free(body);
}

/* The first message starts the clock, so the rate is that of the count - 1 which follow it. */
static void pull_and_report(const char *role, void *socket, size_t size, uint64_t count)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    receive_sized(socket, &message, size);
    struct usage before = usage_now();
    uint64_t began = now_ns();
    for (uint64_t i = 1; i < count; i++)
        receive_sized(socket, &message, size);
    double seconds = (double)(now_ns() - began) / 1e9;
    struct usage cpu = usage_since(before);
    zmq_msg_close(&message);

    report_begin(role);
    report_messages(size, count);
    printf(",\"seconds\":%.9f,\"messages_per_second\":%.1f", seconds, (double)(count - 1) / seconds);
    report_end(cpu);
}

static void push(struct load load)
{
    void *socket = open_connected(load.context, ZMQ_PUSH, load.endpoint);
    struct usage before = usage_now();
    push_messages(socket, load.size, load.count);
    zmq_close(socket);
    zmq_ctx_term(load.context); /* returns when the last message has left: LINGER is infinite */
    report_begin("push");
    report_messages(load.size, load.count);
    report_end(usage_since(before));
}

static void pull(struct load load)
{
    void *socket = open_bound(load.context, ZMQ_PULL, load.endpoint);
    announce(socket);
    pull_and_report("pull", socket, load.size, load.count);
    zmq_close(socket);
    zmq_ctx_term(load.context);
}

/* Latency */

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Nearest rank: the smallest recorded value that `per_mille` of all values do not exceed. */
static uint64_t percentile(const uint64_t *sorted, uint64_t count, uint64_t per_mille)
{
    uint64_t rank = (count * per_mille + 999) / 1000;
    return sorted[rank ? rank - 1 : 0];
}

static void round_trip(void *socket, const char *body, size_t size, zmq_msg_t *reply)
{
    send_message(socket, body, size);
    receive_sized(socket, reply, size);
}

static void request_and_report(const char *role, void *socket, size_t size, uint64_t count)
{
    uint64_t *taken = calloc(count, sizeof *taken);
    char *body = filled_body(size);
    zmq_msg_t reply;
    if (!taken)
        fail("no memory for %llu measurements", (unsigned long long)count);
    zmq_msg_init(&reply);

    for (uint64_t i = 0; i < count / 10; i++)
        round_trip(socket, body, size, &reply);

    struct usage before = usage_now();
    uint64_t began = now_ns();
    uint64_t sent = began;
    for (uint64_t i = 0; i < count; i++) {
        round_trip(socket, body, size, &reply);
        uint64_t received = now_ns();
        taken[i] = received - sent;
        sent = received;
    }
    double seconds = (double)(sent - began) / 1e9;
    struct usage cpu = usage_since(before);

    send_message(socket, end_of_requests, strlen(end_of_requests));
    receive_message(socket, &reply);
    zmq_msg_close(&reply);

    qsort(taken, count, sizeof *taken, by_value);
    report_begin(role);
    report_messages(size, count);
    printf(",\"seconds\":%.9f,\"mean_ns\":%.1f", seconds, seconds * 1e9 / (double)count);
    printf(",\"min_ns\":%llu,\"p50_ns\":%llu,\"p90_ns\":%llu,\"p99_ns\":%llu,\"p99_9_ns\":%llu,\"max_ns\":%llu",
           (unsigned long long)taken[0], (unsigned long long)percentile(taken, count, 500),
           (unsigned long long)percentile(taken, count, 900), (unsigned long long)percentile(taken, count, 990),
           (unsigned long long)percentile(taken, count, 999), (unsigned long long)taken[count - 1]);
    report_end(cpu);
    free(body);
    free(taken);
}

/* Sends every request back as it came, the closing one included; returns how many came before it. */
static uint64_t serve_requests(void *socket, struct usage *at_first)
{
    uint64_t served = 0;
    int ended = 0;
    while (!ended) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        receive_message(socket, &message);
        if (served == 0)
            *at_first = usage_now();
        ended = zmq_msg_size(&message) == strlen(end_of_requests)
                && memcmp(zmq_msg_data(&message), end_of_requests, strlen(end_of_requests)) == 0;
        if (zmq_msg_send(&message, socket, 0) < 0)
            fail_zmq("sending", "a reply");
        served += !ended;
    }
    return served;
}

static void rep(struct load load)
{
    void *socket = open_bound(load.context, ZMQ_REP, load.endpoint);
    announce(socket);
    struct usage before;
    uint64_t served = serve_requests(socket, &before);
    struct usage cpu = usage_since(before);
    zmq_close(socket);
    zmq_ctx_term(load.context);
    report_begin("rep");
    printf(",\"messages\":%llu", (unsigned long long)served);
    report_end(cpu);
}

static void req(struct load load)
{
    void *socket = open_connected(load.context, ZMQ_REQ, load.endpoint);
    request_and_report("req", socket, load.size, load.count);
    zmq_close(socket);
    zmq_ctx_term(load.context);
}

/* Two threads of one context; the CPU seconds are those of both */

static void *pushing_thread(void *argument)
{
    struct load *load = argument;
    void *socket = open_connected(load->context, ZMQ_PUSH, inproc_endpoint);
    push_messages(socket, load->size, load->count);
    zmq_close(socket);
    return NULL;
}

static void *replying_thread(void *argument)
{
    struct load *load = argument;
    void *socket = open_connected(load->context, ZMQ_REP, inproc_endpoint);
    struct usage at_first;
    serve_requests(socket, &at_first);
    zmq_close(socket);
    return NULL;
}

static void beside(void *(*thread_body)(void *), struct load *load, int type,
                   void (*measure)(const char *, void *, size_t, uint64_t), const char *role)
{
    pthread_t thread;
    void *socket = open_bound(load->context, type, inproc_endpoint);
    int error = pthread_create(&thread, NULL, thread_body, load);
    if (error)
        fail("starting a thread: %s", strerror(error));
    measure(role, socket, load->size, load->count);
    pthread_join(thread, NULL);
    zmq_close(socket);
    zmq_ctx_term(load->context);
}

static void inproc_throughput(struct load load)
{
    beside(pushing_thread, &load, ZMQ_PULL, pull_and_report, "inproc-throughput");
}

static void inproc_latency(struct load load)
{
    beside(replying_thread, &load, ZMQ_REQ, request_and_report, "inproc-latency");
}

/* The command line */

struct command {
    const char *name;
    int takes_endpoint;
    int takes_load;
    void (*run)(struct load);
};

static const struct command commands[] = {
    {"push", 1, 1, push},
    {"pull", 1, 1, pull},
    {"rep", 1, 0, rep},
    {"req", 1, 1, req},
    {"inproc-throughput", 0, 1, inproc_throughput},
    {"inproc-latency", 0, 1, inproc_latency},
};

static void usage_error(void)
{
    fputs("usage: sockets push|pull|req ENDPOINT SIZE COUNT\n"
          "       sockets rep ENDPOINT\n"
          "       sockets inproc-throughput|inproc-latency SIZE COUNT\n"
          "       sockets --version\n",
          stderr);
    exit(2);
}

static uint64_t whole_number(const char *what, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value < least || value > most) {
        fprintf(stderr, "sockets: %s is a number from %llu to %llu, not \"%s\"\n", what,
                (unsigned long long)least, (unsigned long long)most, text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        int major, minor, patch;
        zmq_version(&major, &minor, &patch);
        printf("libzmq %d.%d.%d\n", major, minor, patch);
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        const struct command *command = &commands[i];
        if (strcmp(argv[1], command->name) != 0)
            continue;
        if (argc != 2 + command->takes_endpoint + 2 * command->takes_load)
            usage_error();
        struct load load = {0};
        char **argument = argv + 2;
        if (command->takes_endpoint)
            load.endpoint = *argument++;
        if (command->takes_load) {
            load.size = whole_number("SIZE", *argument++, 0, 1u << 30);
            load.count = whole_number("COUNT", *argument++, 2, 1000000000u);
        }
        load.context = zmq_ctx_new();
        if (!load.context)
            fail_zmq("opening", "a context");
        alarm(longest_run_seconds);
        command->run(load);
        return 0;
    }
    usage_error();
}
