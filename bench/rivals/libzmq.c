/*
 * libzmq measured the way an application uses it, for comparison with tidings.
 *
 *   libzmq ROLE key=value ...     play a role; README.md has the table of roles and keys
 *   libzmq --version              the versions of libzmq and of the libsodium that it does CURVE with
 *
 * One message per call, default high-water marks, one I/O thread, no tuning but what a role's comment says.
 * Messages leave with zmq_send from a buffer and arrive with zmq_msg_recv, which hands the octets over without
 * a copy; what is sent back is moved from one call to the other. A role that binds first prints where it
 * listens, and every role ends with one line of JSON. The status is 1 for an error, 2 for wrong usage, 3 for a
 * role that libzmq can't play.
 *
 * The processor time is the whole process's, the I/O thread included, since the measured part began.
 */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

/* What the keys of the command line say; a role looks at those it takes */
struct load {
    void *context;
    const char *endpoint;
    const char *frontend;
    const char *backend;
    const char *keys; /* the folder of the CURVE keys */
    uint64_t size;
    uint64_t count;
    uint64_t frames;
    uint64_t batch;
    uint64_t api;
    uint64_t peers;
    uint64_t connections;
    uint64_t frozen;
    uint64_t rate;
    uint64_t threads;
    uint64_t subscribers;
    uint64_t subscriptions;
    uint64_t topics;
    uint64_t expect;
    uint64_t drop;
    uint64_t kind;
    uint64_t inflight;
    uint64_t mechanism;
    uint64_t transport;
    uint64_t type;
    uint64_t hold;
};

/* The values of keys that are words, in the order of the table of keys */
enum { drop_no, drop_yes };
enum { kind_xsub_xpub, kind_router_dealer };
enum { mechanism_null, mechanism_curve };
enum { transport_tcp, transport_tls };
enum { type_router, type_pull };
enum { hold_no, hold_yes };

/* A run that hangs ends by SIGALRM rather than staying behind; no real run comes near this. */
#define LONGEST_RUN_SECONDS 120
#define TEXT_OF(number) TEXT(number)
#define TEXT(number) #number

#define TOPIC_LENGTH 8

static const char end_of_requests[] = "END";
static const char end_of_topics[] = "99999999";
static const char inproc_endpoint[] = "inproc://bench";

/* How many messages each of several PUSH sockets gets before it is the next one's turn */
static const uint64_t turn = 100;

/* How much earlier than due a sleep ends: above Linux's timer slack of 50 us and a slow wake-up */
static const uint64_t waking_ns = 150000;

/*
 * A ROUTER drops what the pipe to its peer has no room for, and the 1,000 of the high-water mark are freed 500 at
 * a time: a reply is sure to have room only if no more than the other 500 can be on their way.
 */
enum { most_in_flight = 500 };

/* How many connections of `dial` are on their way at a time: more than 100 would overrun libzmq's backlog */
static const uint64_t on_their_way = 64;

/* End marks that may be dropped are repeated this often, this long */
static const uint64_t end_mark_every_ns = 10000000;
static const uint64_t end_marks_for_ns = 2000000000;

/* How long messages that may be dropped wait at the close for a subscriber which does not read */
static const int lossy_linger_ms = 5000;

static const uint64_t second_ns = 1000000000;

/* Ends */

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("libzmq: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void fail_zmq(const char *what, const char *subject)
{
    fail("%s %s: %s", what, subject, zmq_strerror(errno));
}

static void *memory_for(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory)
        fail("no memory for %zu items of %zu octets", count, size);
    return memory;
}

static void end_overdue(int signal_number)
{
    static const char message[] = "libzmq: not done after " TEXT_OF(LONGEST_RUN_SECONDS)
                                  " seconds; see that the other side runs and has the same size and count\n";
    (void)signal_number;
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    _exit(1);
}

static void end_in_time(void)
{
    struct sigaction action = {.sa_handler = end_overdue};
    sigaction(SIGALRM, &action, NULL);
    alarm(LONGEST_RUN_SECONDS);
}

/* Clocks */

struct span {
    uint64_t began;
    double cpu_before;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * second_ns + (uint64_t)now.tv_nsec;
}

static double cpu_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static struct span span_begun(void)
{
    double cpu = cpu_seconds();
    return (struct span){now_ns(), cpu};
}

static double seconds_between(uint64_t began, uint64_t ended)
{
    return (double)(ended - began) / 1e9;
}

/* The last stretch is spent turning, as a sleeping thread wakes some 60 us late. */
static void wait_until(uint64_t due)
{
    uint64_t now = now_ns();
    if (now + waking_ns < due) {
        uint64_t wake = due - waking_ns;
        struct timespec when = {(time_t)(wake / second_ns), (long)(wake % second_ns)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
    }
    while (now_ns() < due)
        continue;
}

/* Sockets */

/* Each socket and each connection takes a file descriptor, and a busy run has thousands of them. */
static void allow_all_open_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void *open_context(uint64_t sockets)
{
    void *context = zmq_ctx_new();
    if (!context)
        fail_zmq("opening", "a context");
    sockets += 2; /* those which watch a peer */
    if (sockets > ZMQ_MAX_SOCKETS_DFLT && zmq_ctx_set(context, ZMQ_MAX_SOCKETS, (int)sockets) != 0)
        fail_zmq("making room for", "so many sockets");
    return context;
}

static void *open_socket(void *context, int type)
{
    void *socket = zmq_socket(context, type);
    if (!socket)
        fail("opening a socket: %s; thousands of them need a higher limit of open files (ulimit -Hn)",
             zmq_strerror(errno));
    return socket;
}

static void set_option(void *socket, int option, int value, const char *name)
{
    if (zmq_setsockopt(socket, option, &value, sizeof value) != 0)
        fail_zmq("setting", name);
}

static void set_text(void *socket, int option, const char *text, const char *name)
{
    if (zmq_setsockopt(socket, option, text, strlen(text)) != 0)
        fail_zmq("setting", name);
}

/* CURVE: one pair of keys for all who bind, one for all who connect, each key as 40 characters of Z85 */

#define KEY_LENGTH 40

static struct {
    bool on;
    char server_public[KEY_LENGTH + 1];
    char server_secret[KEY_LENGTH + 1];
    char client_public[KEY_LENGTH + 1];
    char client_secret[KEY_LENGTH + 1];
} curve;

static void read_key(char *key, const char *folder, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "r") : NULL;
    if (!file || fread(key, 1, KEY_LENGTH, file) != KEY_LENGTH)
        fail("can't read the key of %d characters in %s/%s; `bench-floors make-keys` writes it", KEY_LENGTH, folder,
             name);
    fclose(file);
}

static void use_curve(const char *folder)
{
    read_key(curve.server_public, folder, "server.public");
    read_key(curve.server_secret, folder, "server.secret");
    read_key(curve.client_public, folder, "client.public");
    read_key(curve.client_secret, folder, "client.secret");
    curve.on = true;
}

/* No handler for ZAP is there, so that the server lets in every client whose handshake holds. */
static void secure_server(void *socket)
{
    if (!curve.on)
        return;
    set_option(socket, ZMQ_CURVE_SERVER, 1, "CURVE_SERVER");
    set_text(socket, ZMQ_CURVE_SECRETKEY, curve.server_secret, "CURVE_SECRETKEY");
}

static void secure_client(void *socket)
{
    if (!curve.on)
        return;
    set_text(socket, ZMQ_CURVE_SERVERKEY, curve.server_public, "CURVE_SERVERKEY");
    set_text(socket, ZMQ_CURVE_PUBLICKEY, curve.client_public, "CURVE_PUBLICKEY");
    set_text(socket, ZMQ_CURVE_SECRETKEY, curve.client_secret, "CURVE_SECRETKEY");
}

static void bind_to(void *socket, const char *endpoint)
{
    secure_server(socket);
    if (zmq_bind(socket, endpoint) != 0)
        fail("binding to %s: %s; give tcp://ADDRESS:PORT, where PORT may be *, or ipc://PATH in a folder that exists",
             endpoint, zmq_strerror(errno));
}

static void connect_to(void *socket, const char *endpoint)
{
    if (strncmp(endpoint, "inproc:", 7) != 0)
        secure_client(socket);
    if (zmq_connect(socket, endpoint) != 0)
        fail("connecting to %s: %s; give the endpoint that the other side printed after \"listening\"", endpoint,
             zmq_strerror(errno));
}

static void *open_bound(void *context, int type, const char *endpoint)
{
    void *socket = open_socket(context, type);
    bind_to(socket, endpoint);
    return socket;
}

static void *open_connected(void *context, int type, const char *endpoint)
{
    void *socket = open_socket(context, type);
    connect_to(socket, endpoint);
    return socket;
}

/* `second` is NULL where there is one socket only. */
static void announce(void *first, void *second)
{
    printf("listening");
    void *sockets[] = {first, second};
    for (size_t i = 0; i < 2 && sockets[i]; i++) {
        char endpoint[512];
        size_t length = sizeof endpoint;
        if (zmq_getsockopt(sockets[i], ZMQ_LAST_ENDPOINT, endpoint, &length) != 0)
            fail_zmq("asking for", "the bound endpoint");
        printf(" %s", endpoint);
    }
    printf("\n");
    fflush(stdout);
}

static void *open_announced(void *context, int type, const char *endpoint)
{
    void *socket = open_bound(context, type, endpoint);
    announce(socket, NULL);
    return socket;
}

/*
 * Returns when the last message has left: LINGER is infinite.
 *
 * Who sends to a receiver that is behind has to wait until that one is gone first. A libzmq whose pipe is full stops
 * reading, and where an ipc connection is closed meanwhile, what was on its way is lost.
 */
static void close_flushed(void *socket, void *context)
{
    zmq_close(socket);
    zmq_ctx_term(context);
}

static void send_frame(void *socket, const void *octets, size_t size, int flags)
{
    if (zmq_send(socket, octets, size, flags) < 0)
        fail_zmq("sending", "a message");
}

static void send_message(void *socket, const void *octets, size_t size)
{
    send_frame(socket, octets, size, 0);
}

static void receive_frame(void *socket, zmq_msg_t *frame)
{
    if (zmq_msg_recv(frame, socket, 0) < 0)
        fail_zmq("receiving", "a message");
}

/* False if there is nothing to receive now */
static bool received_frame(void *socket, zmq_msg_t *frame)
{
    if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) >= 0)
        return true;
    if (errno != EAGAIN)
        fail_zmq("receiving", "a message");
    return false;
}

static void expect_size(zmq_msg_t *frame, size_t size)
{
    if (zmq_msg_size(frame) != size)
        fail("received %zu octets, expected %zu", zmq_msg_size(frame), size);
}

static void receive_sized(void *socket, zmq_msg_t *frame, size_t size, uint64_t frames)
{
    for (uint64_t number = 1; number <= frames; number++) {
        receive_frame(socket, frame);
        expect_size(frame, size);
        if (zmq_msg_more(frame) != (number < frames))
            fail("frame %llu of a message is %sthe last, expected %llu frames", (unsigned long long)number,
                 number < frames ? "" : "not ", (unsigned long long)frames);
    }
}

static bool begins_with(zmq_msg_t *frame, const char *octets, size_t length)
{
    return zmq_msg_size(frame) >= length && memcmp(zmq_msg_data(frame), octets, length) == 0;
}

static bool is_end_of_requests(zmq_msg_t *frame)
{
    size_t length = strlen(end_of_requests);
    return zmq_msg_size(frame) == length && begins_with(frame, end_of_requests, length);
}

static char *filled_body(size_t size)
{
    char *body = memory_for(size, 1);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)(i % 251);
    return body;
}

/* Reports: one JSON object, begun and ended here */

static void report_begin(const char *role)
{
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf("{\"role\":\"%s\",\"libzmq\":\"%d.%d.%d\",\"mechanism\":\"%s\"", role, major, minor, patch,
           curve.on ? "CURVE" : "NULL");
}

static void report_end(double cpu)
{
    printf(",\"cpu_seconds\":%.6f}\n", cpu);
    fflush(stdout);
}

/* `timed` of the messages came while the clock ran: all, or all but the one that started it. */
static void report_rate(uint64_t messages, uint64_t timed, double seconds)
{
    printf(",\"messages\":%llu,\"seconds\":%.9f,\"per_second\":%.1f", (unsigned long long)messages, seconds,
           seconds > 0 ? (double)timed / seconds : 0.0);
}

static void report_throughput(const char *role, uint64_t messages, uint64_t timed, double seconds, double cpu)
{
    report_begin(role);
    report_rate(messages, timed, seconds);
    report_end(cpu);
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Nearest rank: the smallest recorded value that `parts` of 10,000 of all values do not exceed */
static unsigned long long quantile(const uint64_t *sorted, uint64_t count, uint64_t parts)
{
    uint64_t rank = (count * parts + 9999) / 10000;
    return sorted[rank ? rank - 1 : 0];
}

static void report_latency(const char *role, uint64_t *taken, uint64_t count, double seconds, double cpu)
{
    static const unsigned fractions[] = {0, 100, 500, 1000, 2500, 5000, 7500, 9000, 9500, 9900, 9990, 9999, 10000};
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (double)taken[i];
    qsort(taken, count, sizeof *taken, by_value);

    report_begin(role);
    report_rate(count, count, seconds);
    printf(",\"p50_ns\":%llu,\"p90_ns\":%llu,\"p99_ns\":%llu,\"p99_9_ns\":%llu,\"max_ns\":%llu,\"mean_ns\":%.1f",
           quantile(taken, count, 5000), quantile(taken, count, 9000), quantile(taken, count, 9900),
           quantile(taken, count, 9990), quantile(taken, count, 10000), sum / (double)count);
    printf(",\"quantiles\":[");
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++)
        printf("%s[%g,%llu]", i ? "," : "", fractions[i] / 1e4, quantile(taken, count, fractions[i]));
    printf("]");
    report_end(cpu);
}

/* Throughput: PUSH to PULL */

static void push_messages(void **sockets, const struct load *load)
{
    char *body = filled_body(load->size);
    uint64_t next = 0;
    for (uint64_t left = load->count; left > 0; next = (next + 1) % load->connections) {
        uint64_t now = left < turn ? left : turn;
        for (uint64_t i = 0; i < now; i++) {
            for (uint64_t frame = 1; frame < load->frames; frame++)
                send_frame(sockets[next], body, load->size, ZMQ_SNDMORE);
            send_message(sockets[next], body, load->size);
        }
        left -= now;
    }
    free(body);
}

/* A socket that tells what happens to the connection of another one, which has no more than that */
static void *watch_peer(void *context, void *socket, int what)
{
    static uint64_t watched;
    char events[64];
    snprintf(events, sizeof events, "inproc://events-%llu", (unsigned long long)watched++);
    if (zmq_socket_monitor(socket, events, what) != 0)
        fail_zmq("monitoring", "a socket");
    return open_connected(context, ZMQ_PAIR, events);
}

static void await_event(void *watch, int wanted)
{
    zmq_msg_t event;
    zmq_msg_init(&event);
    uint16_t number = 0;
    while (number != wanted) {
        receive_frame(watch, &event); /* the number and a value, then the endpoint */
        if (zmq_msg_size(&event) < sizeof number)
            fail("an event of %zu octets came", zmq_msg_size(&event));
        memcpy(&number, zmq_msg_data(&event), sizeof number);
        receive_frame(watch, &event);
    }
    zmq_msg_close(&event);
}

static void stop_watching(void *socket, void *watch)
{
    zmq_socket_monitor(socket, NULL, 0);
    zmq_close(watch);
}

static void await_peer_gone(void *socket, void *watch)
{
    await_event(watch, ZMQ_EVENT_DISCONNECTED);
    stop_watching(socket, watch);
}

/* Connects one after the other: monitors of all at once would take two sockets more for each of thousands. */
static void connect_and_await_handshake(void *context, void *socket, const char *endpoint)
{
    void *watch = watch_peer(context, socket, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    connect_to(socket, endpoint);
    await_event(watch, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    stop_watching(socket, watch);
}

/* All are connected before the first message, and one tells when the only receiver, having everything, is done. */
static void push(const struct load *load)
{
    void **sockets = memory_for(load->connections, sizeof *sockets);
    for (uint64_t i = 0; i < load->connections; i++) {
        sockets[i] = open_socket(load->context, ZMQ_PUSH);
        connect_and_await_handshake(load->context, sockets[i], load->endpoint);
    }
    void *watch = watch_peer(load->context, sockets[0], ZMQ_EVENT_DISCONNECTED);
    struct span span = span_begun();
    push_messages(sockets, load);
    await_peer_gone(sockets[0], watch);
    for (uint64_t i = 1; i < load->connections; i++)
        zmq_close(sockets[i]);
    close_flushed(sockets[0], load->context);
    report_throughput("push", load->count, load->count, seconds_between(span.began, now_ns()),
                      cpu_seconds() - span.cpu_before);
    free(sockets);
}

/* The first message starts the clock, so the rate is that of the count - 1 which follow it. */
static void receive_and_report(const char *role, void *socket, const struct load *load)
{
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    receive_sized(socket, &frame, load->size, load->frames);
    struct span span = span_begun();
    for (uint64_t i = 1; i < load->count; i++)
        receive_sized(socket, &frame, load->size, load->frames);
    double seconds = seconds_between(span.began, now_ns());
    double cpu = cpu_seconds() - span.cpu_before;
    zmq_msg_close(&frame);
    report_throughput(role, load->count, load->count - 1, seconds, cpu);
}

static void pull(const struct load *load)
{
    void *socket = open_announced(load->context, ZMQ_PULL, load->endpoint);
    receive_and_report("pull", socket, load);
    close_flushed(socket, load->context);
}

/* Latency: REQ to REP */

static void round_trip(void *socket, const char *body, size_t size, zmq_msg_t *reply)
{
    send_message(socket, body, size);
    receive_sized(socket, reply, size, 1);
}

/* Has what serves at the other end return, and waits for its last reply. */
static void end_requests(void *socket, zmq_msg_t *reply)
{
    send_message(socket, end_of_requests, strlen(end_of_requests));
    do
        receive_frame(socket, reply);
    while (!is_end_of_requests(reply));
}

/* With a rate, a time counts from when the request was due: what a late one waited is part of it. */
static void request_and_report(const char *role, void *socket, const struct load *load)
{
    uint64_t *taken = memory_for(load->count, sizeof *taken);
    char *body = filled_body(load->size);
    zmq_msg_t reply;
    zmq_msg_init(&reply);

    for (uint64_t i = 0; i < load->count / 10; i++)
        round_trip(socket, body, load->size, &reply);

    struct span span = span_begun();
    uint64_t received = span.began;
    for (uint64_t i = 0; i < load->count; i++) {
        uint64_t due = received;
        if (load->rate) {
            due = span.began + i * second_ns / load->rate;
            wait_until(due);
        }
        round_trip(socket, body, load->size, &reply);
        received = now_ns();
        taken[i] = received - due;
    }
    double cpu = cpu_seconds() - span.cpu_before;

    end_requests(socket, &reply);
    zmq_msg_close(&reply);
    report_latency(role, taken, load->count, seconds_between(span.began, received), cpu);
    free(body);
    free(taken);
}

static void req(const struct load *load)
{
    void *socket = open_connected(load->context, ZMQ_REQ, load->endpoint);
    request_and_report("req", socket, load);
    close_flushed(socket, load->context);
}

/*
 * Sends every message back as it came, frame by frame and without a copy, the closing one included; what a ROUTER
 * receives begins with whom it came from, and so finds its way. Returns how many came before the closing one.
 */
static uint64_t echo_messages(void *socket, struct span *since_first)
{
    uint64_t echoed = 0;
    bool begun = false;
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    for (;;) {
        receive_frame(socket, &frame);
        if (!begun)
            *since_first = span_begun();
        begun = true;
        bool more = zmq_msg_more(&frame);
        bool ended = !more && is_end_of_requests(&frame);
        if (zmq_msg_send(&frame, socket, more ? ZMQ_SNDMORE : 0) < 0)
            fail_zmq("sending", "a message back");
        if (ended)
            return echoed;
        echoed += !more;
    }
}

static void echo_and_report(const char *role, void *socket, const struct load *load)
{
    struct span span;
    uint64_t echoed = echo_messages(socket, &span);
    double seconds = seconds_between(span.began, now_ns());
    double cpu = cpu_seconds() - span.cpu_before;
    close_flushed(socket, load->context);
    report_throughput(role, echoed, echoed, seconds, cpu);
}

static void rep(const struct load *load)
{
    echo_and_report("rep", open_announced(load->context, ZMQ_REP, load->endpoint), load);
}

static void router(const struct load *load)
{
    echo_and_report("router", open_announced(load->context, ZMQ_ROUTER, load->endpoint), load);
}

/* Two threads of one context; the processor time is that of both */

static void *pushing_thread(void *argument)
{
    const struct load *load = argument;
    void *socket = open_connected(load->context, ZMQ_PUSH, inproc_endpoint);
    push_messages(&socket, load);
    zmq_close(socket);
    return NULL;
}

static void *replying_thread(void *argument)
{
    const struct load *load = argument;
    void *socket = open_connected(load->context, ZMQ_REP, inproc_endpoint);
    struct span span;
    echo_messages(socket, &span);
    zmq_close(socket);
    return NULL;
}

static pthread_t start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, body, argument);
    if (error)
        fail("starting a thread: %s", strerror(error));
    return thread;
}

static void beside(void *(*thread_body)(void *), const struct load *load, int type,
                   void (*measure)(const char *, void *, const struct load *), const char *role)
{
    struct load shared = *load;
    void *socket = open_bound(load->context, type, inproc_endpoint);
    pthread_t thread = start_thread(thread_body, &shared);
    measure(role, socket, load);
    pthread_join(thread, NULL);
    close_flushed(socket, load->context);
}

static void inproc_throughput(const struct load *load)
{
    beside(pushing_thread, load, ZMQ_PULL, receive_and_report, "inproc-throughput");
}

static void inproc_latency(const struct load *load)
{
    beside(replying_thread, load, ZMQ_REQ, request_and_report, "inproc-latency");
}

/* Publishing: XPUB to SUB, messages beginning with a topic of eight digits */

static void write_topic(char *octets, uint64_t topic)
{
    for (size_t i = TOPIC_LENGTH; i > 0; i--) {
        octets[i - 1] = (char)('0' + topic % 10);
        topic /= 10;
    }
}

/* An XPUB is a PUB that tells of each subscription, even of one that another peer has as well. */
static void *open_publisher(const struct load *load)
{
    void *socket = open_socket(load->context, ZMQ_XPUB);
    set_option(socket, ZMQ_XPUB_VERBOSE, 1, "XPUB_VERBOSE");
    if (load->drop == drop_no)
        set_option(socket, ZMQ_XPUB_NODROP, 1, "XPUB_NODROP");
    return socket;
}

/* Each subscriber has its own subscriptions and that to the end mark. */
static void await_subscriptions(void *socket, uint64_t subscribers, uint64_t subscriptions)
{
    static const char subscribed_to_end[] = "\00199999999";
    uint64_t ordinary = 0, to_end = 0;
    zmq_msg_t event;
    zmq_msg_init(&event);
    while (ordinary < subscribers * subscriptions || to_end < subscribers) {
        receive_frame(socket, &event);
        if (begins_with(&event, subscribed_to_end, 1 + TOPIC_LENGTH))
            to_end++;
        else
            ordinary += begins_with(&event, subscribed_to_end, 1);
    }
    zmq_msg_close(&event);
}

/* True once the last of those subscribed to a topic is gone; waits until `due` at most */
static bool left_by(void *socket, const char *topic, uint64_t due)
{
    static const char unsubscribed = 0;
    bool gone = false;
    zmq_msg_t event;
    zmq_msg_init(&event);
    for (uint64_t now = now_ns(); !gone && now < due; now = now_ns()) {
        zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
        long milliseconds = (long)((due - now + 999999) / 1000000);
        if (zmq_poll(&item, 1, milliseconds) < 0)
            fail_zmq("waiting for", "subscribers to leave");
        while (!gone && received_frame(socket, &event))
            gone = begins_with(&event, &unsubscribed, 1) && zmq_msg_size(&event) == 1 + strlen(topic)
                   && memcmp((char *)zmq_msg_data(&event) + 1, topic, strlen(topic)) == 0;
    }
    zmq_msg_close(&event);
    return gone;
}

static void await_subscribers_gone(void *socket, const char *topic)
{
    left_by(socket, topic, now_ns() + LONGEST_RUN_SECONDS * second_ns);
}

static void repeat_end_mark(void *socket, const char *mark, size_t size)
{
    uint64_t due = now_ns();
    uint64_t last = due + end_marks_for_ns;
    do {
        send_message(socket, mark, size);
        due += end_mark_every_ns;
    } while (!left_by(socket, end_of_topics, due) && due < last);
}

static void publish(const struct load *load)
{
    void *socket = open_publisher(load);
    bind_to(socket, load->endpoint);
    announce(socket, NULL);
    await_subscriptions(socket, load->subscribers, load->subscriptions);

    char *body = filled_body(load->size);
    uint64_t topic = 0;
    write_topic(body, topic);
    struct span span = span_begun();
    for (uint64_t i = 0; i < load->count; i++) {
        send_message(socket, body, load->size);
        if (load->topics > 1) {
            topic = topic + 1 < load->topics ? topic + 1 : 0;
            write_topic(body, topic);
        }
    }
    double seconds = seconds_between(span.began, now_ns());

    memcpy(body, end_of_topics, TOPIC_LENGTH);
    if (load->drop == drop_no) {
        send_message(socket, body, load->size);
        await_subscribers_gone(socket, end_of_topics);
    } else {
        repeat_end_mark(socket, body, load->size);
        set_option(socket, ZMQ_LINGER, lossy_linger_ms, "LINGER");
    }
    close_flushed(socket, load->context);
    free(body);
    report_throughput("publish", load->count, load->count, seconds, cpu_seconds() - span.cpu_before);
}

/* What the subscribers of a process have received */
struct deliveries {
    uint64_t size;
    uint64_t wanted; /* 0: all that come before the end marks */
    uint64_t count;
    uint64_t open; /* connections whose end mark did not come yet */
    bool *ended;
    struct span since_first;
    uint64_t last;
};

static void subscribe_to(void *socket, const char *topic)
{
    if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, topic, strlen(topic)) != 0)
        fail_zmq("subscribing to", *topic ? topic : "everything");
}

/*
 * Subscriptions leave through the pipe of the connection, whose high-water mark cuts off those beyond it
 * without a word; a SUB sends nothing else, so that lifting the mark changes nothing that is measured.
 */
static void *open_subscriber(const struct load *load, uint64_t connection)
{
    void *socket = open_socket(load->context, ZMQ_SUB);
    set_option(socket, ZMQ_SNDHWM, 0, "SNDHWM");
    subscribe_to(socket, end_of_topics);
    if (load->subscriptions == 1)
        subscribe_to(socket, "");
    for (uint64_t i = 0; load->subscriptions > 1 && i < load->subscriptions; i++) {
        char topic[TOPIC_LENGTH + 1] = {0};
        write_topic(topic, connection * load->subscriptions + i);
        subscribe_to(socket, topic);
    }
    connect_to(socket, load->endpoint);
    return socket;
}

/* True for a delivery, false for an end mark */
static bool note_delivery(struct deliveries *deliveries, uint64_t connection, zmq_msg_t *message)
{
    if (begins_with(message, end_of_topics, TOPIC_LENGTH)) {
        deliveries->open -= !deliveries->ended[connection];
        deliveries->ended[connection] = true;
        return false;
    }
    expect_size(message, deliveries->size);
    if (deliveries->count++ == 0)
        deliveries->since_first = span_begun();
    return true;
}

static bool all_delivered(const struct deliveries *deliveries)
{
    return deliveries->open == 0 || (deliveries->wanted && deliveries->count >= deliveries->wanted);
}

/* The clock is read at each delivery only where nobody can tell which will be the last. */
static void receive_on_one(void *socket, struct deliveries *deliveries)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (!all_delivered(deliveries)) {
        receive_frame(socket, &message);
        if (note_delivery(deliveries, 0, &message) && !deliveries->wanted)
            deliveries->last = now_ns();
    }
    if (deliveries->wanted)
        deliveries->last = now_ns();
    zmq_msg_close(&message);
}

static void drain(void *socket, uint64_t connection, struct deliveries *deliveries)
{
    bool delivered = false;
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (!all_delivered(deliveries) && received_frame(socket, &message))
        delivered |= note_delivery(deliveries, connection, &message);
    if (delivered)
        deliveries->last = now_ns();
    zmq_msg_close(&message);
}

static void receive_on_many(void **sockets, uint64_t connections, struct deliveries *deliveries)
{
    zmq_pollitem_t *items = memory_for(connections, sizeof *items);
    for (uint64_t i = 0; i < connections; i++)
        items[i] = (zmq_pollitem_t){.socket = sockets[i], .events = ZMQ_POLLIN};
    while (!all_delivered(deliveries)) {
        int ready = zmq_poll(items, (int)connections, -1);
        if (ready < 0)
            fail_zmq("waiting for", "messages");
        for (uint64_t i = 0; ready > 0 && i < connections; i++) {
            if (items[i].revents & ZMQ_POLLIN) {
                drain(sockets[i], i, deliveries);
                ready--;
            }
        }
    }
    free(items);
}

static void subscribe(const struct load *load)
{
    uint64_t all = load->connections + load->frozen;
    void **sockets = memory_for(all, sizeof *sockets);
    struct deliveries deliveries = {.size = load->size, .wanted = load->expect, .open = load->connections};
    deliveries.ended = memory_for(load->connections, sizeof *deliveries.ended);
    for (uint64_t i = 0; i < all; i++)
        sockets[i] = open_subscriber(load, i);

    if (load->connections == 1)
        receive_on_one(sockets[0], &deliveries);
    else
        receive_on_many(sockets, load->connections, &deliveries);
    double cpu = deliveries.count ? cpu_seconds() - deliveries.since_first.cpu_before : 0;
    double seconds = deliveries.count ? seconds_between(deliveries.since_first.began, deliveries.last) : 0;

    for (uint64_t i = 0; i < all; i++)
        zmq_close(sockets[i]);
    zmq_ctx_term(load->context);
    report_begin("subscribe");
    report_rate(deliveries.count, deliveries.count ? deliveries.count - 1 : 0, seconds);
    printf(",\"missed\":%llu",
           (unsigned long long)(deliveries.count < load->expect ? load->expect - deliveries.count : 0));
    report_end(cpu);
    free(deliveries.ended);
    free(sockets);
}

/* Proxies, and what is at their ends */

struct proxy {
    void *frontend;
    void *backend;
};

/* Returns when the context is shut down: that is how zmq_proxy ends. */
static void *proxying_thread(void *argument)
{
    struct proxy *proxy = argument;
    zmq_proxy(proxy->frontend, proxy->backend, NULL);
    if (errno != ETERM)
        fail_zmq("running", "the proxy");
    zmq_close(proxy->frontend);
    zmq_close(proxy->backend);
    return NULL;
}

static void await_end_of_input(void)
{
    char octets[512];
    ssize_t got;
    do
        got = read(STDIN_FILENO, octets, sizeof octets);
    while (got > 0 || (got < 0 && errno == EINTR));
}

/*
 * The sink must get each message that the source sent, so that the XPUB waits for it too: left to itself it
 * drops what a sink does not take at once.
 */
static void proxy(const struct load *load)
{
    bool publishing = load->kind == kind_xsub_xpub;
    struct proxy proxy = {
        .frontend = open_bound(load->context, publishing ? ZMQ_XSUB : ZMQ_ROUTER, load->frontend),
        .backend = open_socket(load->context, publishing ? ZMQ_XPUB : ZMQ_DEALER),
    };
    if (publishing)
        set_option(proxy.backend, ZMQ_XPUB_NODROP, 1, "XPUB_NODROP");
    set_option(proxy.frontend, ZMQ_LINGER, 0, "LINGER");
    set_option(proxy.backend, ZMQ_LINGER, 0, "LINGER");
    bind_to(proxy.backend, load->backend);
    announce(proxy.frontend, proxy.backend);

    struct span span = span_begun();
    pthread_t thread = start_thread(proxying_thread, &proxy);
    await_end_of_input();
    double cpu = cpu_seconds() - span.cpu_before;
    double seconds = seconds_between(span.began, now_ns());
    zmq_ctx_shutdown(load->context);
    pthread_join(thread, NULL);
    zmq_ctx_term(load->context);
    report_begin("proxy");
    printf(",\"seconds\":%.9f", seconds);
    report_end(cpu);
}

static void proxy_source(const struct load *load)
{
    void *socket = open_publisher(load);
    connect_to(socket, load->endpoint);
    zmq_msg_t subscription;
    zmq_msg_init(&subscription);
    receive_frame(socket, &subscription);
    zmq_msg_close(&subscription);

    struct span span = span_begun();
    push_messages(&socket, load);
    await_subscribers_gone(socket, "");
    close_flushed(socket, load->context);
    report_throughput("proxy-source", load->count, load->count, seconds_between(span.began, now_ns()),
                      cpu_seconds() - span.cpu_before);
}

static void proxy_sink(const struct load *load)
{
    void *socket = open_socket(load->context, ZMQ_SUB);
    subscribe_to(socket, "");
    connect_to(socket, load->endpoint);
    receive_and_report("proxy-sink", socket, load);
    close_flushed(socket, load->context);
}

/* A round trip goes before, so that connecting and finding the worker are outside. */
static void proxy_client(const struct load *load)
{
    void *socket = open_connected(load->context, ZMQ_DEALER, load->endpoint);
    char *body = filled_body(load->size);
    zmq_msg_t reply;
    zmq_msg_init(&reply);
    round_trip(socket, body, load->size, &reply);

    struct span span = span_begun();
    uint64_t sent = 0;
    for (; sent < load->inflight && sent < load->count; sent++)
        send_message(socket, body, load->size);
    for (uint64_t received = 0; received < load->count; received++) {
        receive_sized(socket, &reply, load->size, 1);
        if (sent < load->count) {
            send_message(socket, body, load->size);
            sent++;
        }
    }
    double seconds = seconds_between(span.began, now_ns());
    double cpu = cpu_seconds() - span.cpu_before;

    end_requests(socket, &reply);
    zmq_msg_close(&reply);
    free(body);
    close_flushed(socket, load->context);
    report_throughput("proxy-client", load->count, load->count, seconds, cpu);
}

static void proxy_worker(const struct load *load)
{
    echo_and_report("proxy-worker", open_connected(load->context, ZMQ_DEALER, load->endpoint), load);
}

/* Many connections, and many one after the other */

static uint64_t open_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        fail("listing /proc/self/fd: %s", strerror(errno));
    uint64_t count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static uint64_t resident_kib(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %llu", &pages) != 1)
        fail("can't read the memory in use from /proc/self/statm");
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* A connection is what takes a file once the socket is bound; libzmq has no way to count them itself. */
static void report_connections(uint64_t files_before)
{
    uint64_t resident = resident_kib();
    printf("{\"rss_kib\":%llu,\"connections\":%llu,\"cpu_seconds\":%.6f}\n", (unsigned long long)resident,
           (unsigned long long)(open_files() - files_before), cpu_seconds());
    fflush(stdout);
}

static void idle_server(const struct load *load)
{
    int type = load->type == type_pull ? ZMQ_PULL : ZMQ_ROUTER;
    void *socket = open_bound(load->context, type, load->endpoint);
    uint64_t files_before = open_files();
    announce(socket, NULL);
    zmq_pollitem_t items[] = {{.socket = socket, .events = ZMQ_POLLIN}, {.fd = STDIN_FILENO, .events = ZMQ_POLLIN}};
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    for (bool open = true; open;) {
        if (zmq_poll(items, 2, -1) < 0)
            fail_zmq("waiting for", "connections or input");
        while (received_frame(socket, &frame))
            continue;
        if (items[1].revents) {
            char octets[512];
            ssize_t got = read(STDIN_FILENO, octets, sizeof octets);
            open = got > 0;
            for (ssize_t i = 0; i < got; i++)
                if (octets[i] == '\n')
                    report_connections(files_before);
        }
    }
    zmq_msg_close(&frame);
    close_flushed(socket, load->context);
}

/*
 * As many connections of one PUSH, the one type of those that get no reply which may connect to the same endpoint
 * again and again. Those that are held end with their socket when stdin closes.
 */
static void dial(const struct load *load)
{
    void *socket = open_socket(load->context, ZMQ_PUSH);
    set_option(socket, ZMQ_LINGER, 0, "LINGER");
    void *watch = watch_peer(load->context, socket, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    struct span span = span_begun();
    uint64_t begun = 0;
    for (uint64_t open = 0; open < load->connections; open++) {
        for (; begun < load->connections && begun < open + on_their_way; begun++)
            connect_to(socket, load->endpoint);
        await_event(watch, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    }
    double seconds = seconds_between(span.began, now_ns());
    double cpu = cpu_seconds() - span.cpu_before;
    stop_watching(socket, watch);
    report_throughput("dial", load->connections, load->connections, seconds, cpu);
    if (load->hold == hold_yes)
        await_end_of_input();
    close_flushed(socket, load->context);
}

static void connect_echo(const struct load *load)
{
    enum { echoed_octets = 64 };
    char *body = filled_body(echoed_octets);
    zmq_msg_t reply;
    zmq_msg_init(&reply);
    struct span span = span_begun();
    for (uint64_t i = 0; i < load->count; i++) {
        void *socket = open_connected(load->context, ZMQ_REQ, load->endpoint);
        round_trip(socket, body, echoed_octets, &reply);
        zmq_close(socket);
    }
    double seconds = seconds_between(span.began, now_ns());
    double cpu = cpu_seconds() - span.cpu_before;

    void *socket = open_connected(load->context, ZMQ_REQ, load->endpoint);
    end_requests(socket, &reply);
    zmq_msg_close(&reply);
    free(body);
    close_flushed(socket, load->context);
    report_throughput("connect-echo", load->count, load->count, seconds, cpu);
}

/* The command line */

struct role {
    const char *name;
    const char *needed; /* keys, each after a blank */
    const char *optional;
    void (*run)(const struct load *);
};

/* All that go over tcp may have what `security` lists. */
#define SECURITY " mechanism keys transport"

static const struct role roles[] = {
    {"pull", " endpoint size count", " batch frames api peers" SECURITY, pull},
    {"push", " endpoint size count", " batch frames api connections" SECURITY, push},
    {"rep", " endpoint", " batch api" SECURITY, rep},
    {"req", " endpoint size count", " batch api rate" SECURITY, req},
    {"inproc-throughput", " size count", "", inproc_throughput},
    {"inproc-latency", " size count", " threads", inproc_latency},
    {"publish", " endpoint size count subscribers subscriptions", " topics drop" SECURITY, publish},
    {"subscribe", " endpoint size count connections subscriptions expect", " topics frozen" SECURITY, subscribe},
    {"router", " endpoint", "", router},
    {"proxy", " frontend backend kind", "", proxy},
    {"proxy-source", " endpoint size count", "", proxy_source},
    {"proxy-sink", " endpoint size count", "", proxy_sink},
    {"proxy-client", " endpoint size count inflight", "", proxy_client},
    {"proxy-worker", " endpoint", " size count inflight", proxy_worker},
    {"idle-server", " endpoint", " type" SECURITY, idle_server},
    {"dial", " endpoint connections", " hold" SECURITY, dial},
    {"connect-echo", " endpoint count", SECURITY, connect_echo},
};

struct key {
    const char *name;
    size_t field;
    const char *words[2]; /* what it may be, if it is a word; else it is a number, or an endpoint if `most` is 0 */
    uint64_t least;
    uint64_t most;
    uint64_t initial;
    bool is_path;
};

#define FIELD(name) #name, offsetof(struct load, name)

/* libzmq has one message per call and blocking calls: `batch` and `api` are there because others have them. */
static const struct key keys[] = {
    {FIELD(endpoint), {0}, 0, 0, 0, false},
    {FIELD(frontend), {0}, 0, 0, 0, false},
    {FIELD(backend), {0}, 0, 0, 0, false},
    {FIELD(keys), {0}, 0, 0, 0, true},
    {FIELD(size), {0}, 0, 1u << 30, 0, false},
    {FIELD(count), {0}, 1, 1000000000, 0, false},
    {FIELD(frames), {0}, 1, 1000, 1, false},
    {FIELD(batch), {0}, 1, 1000000, 1, false},
    {FIELD(api), {"async", "blocking"}, 0, 0, 0, false},
    {FIELD(peers), {0}, 1, 60000, 1, false},
    {FIELD(connections), {0}, 1, 30000, 1, false},
    {FIELD(frozen), {0}, 0, 30000, 0, false},
    {FIELD(rate), {0}, 1, 10000000, 0, false},
    {FIELD(threads), {0}, 1, 2, 2, false},
    {FIELD(subscribers), {0}, 1, 60000, 0, false},
    {FIELD(subscriptions), {0}, 1, 10000000, 0, false},
    {FIELD(topics), {0}, 1, 99999999, 1, false},
    {FIELD(expect), {0}, 0, UINT64_C(1000000000000), 0, false},
    {FIELD(drop), {"no", "yes"}, 0, 0, drop_no, false},
    {FIELD(kind), {"xsub-xpub", "router-dealer"}, 0, 0, 0, false},
    {FIELD(inflight), {0}, 1, most_in_flight, 0, false},
    {FIELD(mechanism), {"null", "curve"}, 0, 0, mechanism_null, false},
    {FIELD(transport), {"tcp", "tls"}, 0, 0, transport_tcp, false},
    {FIELD(type), {"router", "pull"}, 0, 0, type_router, false},
    {FIELD(hold), {"no", "yes"}, 0, 0, hold_no, false},
};

static void usage_error(const struct role *role, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("libzmq: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (role)
        fprintf(stderr, "; %s needs%s%s%s%s\n", role->name, role->needed, *role->optional ? ", may have" : "",
                role->optional, "; each is given as key=value");
    else
        fputs("; usage: libzmq ROLE key=value ..., or libzmq --version\n", stderr);
    exit(2);
}

/* Whether `name` is one of a list of keys, each after a blank */
static bool lists(const char *list, const char *name, size_t length)
{
    for (; *list; list += strcspn(list, " ")) {
        list++;
        if (strcspn(list, " ") == length && strncmp(list, name, length) == 0)
            return true;
    }
    return false;
}

static bool is_endpoint(const char *text)
{
    return (strncmp(text, "tcp://", 6) == 0 || strncmp(text, "ipc://", 6) == 0) && text[6];
}

static uint64_t word_of(const struct role *role, const struct key *key, const char *text)
{
    for (uint64_t i = 0; i < 2; i++)
        if (strcmp(text, key->words[i]) == 0)
            return i;
    usage_error(role, "%s is %s or %s, not \"%s\"", key->name, key->words[0], key->words[1], text);
    return 0;
}

static uint64_t number_of(const struct role *role, const struct key *key, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || text[0] < '0' || text[0] > '9' || *end || value < key->least || value > key->most)
        usage_error(role, "%s is a number from %llu to %llu, not \"%s\"", key->name, (unsigned long long)key->least,
                    (unsigned long long)key->most, text);
    return value;
}

static void set_key(struct load *load, const struct role *role, const struct key *key, const char *text)
{
    void *field = (char *)load + key->field;
    if (key->words[0]) {
        *(uint64_t *)field = word_of(role, key, text);
    } else if (key->most) {
        *(uint64_t *)field = number_of(role, key, text);
    } else {
        if (key->is_path ? !*text : !is_endpoint(text))
            usage_error(role, "%s is like %s, not \"%s\"", key->name,
                        key->is_path ? "/tmp/keys" : "tcp://127.0.0.1:5555 or ipc:///tmp/bench", text);
        *(const char **)field = text;
    }
}

/* The value in the one argument that gives a key, or NULL */
static const char *value_of(const struct role *role, const struct key *key, char **arguments)
{
    size_t length = strlen(key->name);
    const char *value = NULL;
    for (; *arguments; arguments++) {
        if (strncmp(*arguments, key->name, length) != 0 || (*arguments)[length] != '=')
            continue;
        if (value)
            usage_error(role, "%s is given twice", key->name);
        value = *arguments + length + 1;
    }
    return value;
}

static struct load parsed_load(const struct role *role, char **arguments)
{
    for (char **argument = arguments; *argument; argument++) {
        size_t length = strcspn(*argument, "=");
        if (!(*argument)[length])
            usage_error(role, "\"%s\" is not key=value", *argument);
        if (!lists(role->needed, *argument, length) && !lists(role->optional, *argument, length))
            usage_error(role, "there is no key \"%.*s\"", (int)length, *argument);
    }
    struct load load = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct key *key = &keys[i];
        const char *value = value_of(role, key, arguments);
        if (value)
            set_key(&load, role, key, value);
        else if (lists(role->needed, key->name, strlen(key->name)))
            usage_error(role, "%s= is missing", key->name);
        else if (key->words[0] || key->most)
            *(uint64_t *)((char *)&load + key->field) = key->initial;
    }
    return load;
}

/* libzmq.h does not tell it, and not every libzmq has one. */
static const char *libsodium_version(void)
{
    const char *(*version)(void) = NULL;
    void *program = dlopen(NULL, RTLD_LAZY);
    void *found = program ? dlsym(program, "sodium_version_string") : NULL;
    memcpy(&version, &found, sizeof version);
    return version ? version() : NULL;
}

static const struct role *role_named(const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(name, roles[i].name) == 0)
            return &roles[i];
    fprintf(stderr, "unsupported %s\n", name);
    exit(3);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        usage_error(NULL, "no role is given");
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        int major, minor, patch;
        zmq_version(&major, &minor, &patch);
        const char *sodium = libsodium_version();
        printf("libzmq %d.%d.%d%s%s\n", major, minor, patch, sodium ? ", libsodium " : ", no libsodium",
               sodium ? sodium : "");
        return 0;
    }
    const struct role *role = role_named(argv[1]);
    struct load load = parsed_load(role, argv + 2);
    if (role->run == publish && load.size < TOPIC_LENGTH)
        usage_error(role, "size is at least the %d octets of a topic", TOPIC_LENGTH);
    if (load.threads == 1) {
        fprintf(stderr, "unsupported %s with threads=1: the calls of libzmq block\n", role->name);
        return 3;
    }
    if (load.transport == transport_tls) {
        fprintf(stderr, "unsupported %s with transport=tls: libzmq has no TLS\n", role->name);
        return 3;
    }
    if (load.mechanism == mechanism_curve) {
        if (!zmq_has("curve")) {
            fprintf(stderr, "unsupported %s with mechanism=curve: this libzmq is built without\n", role->name);
            return 3;
        }
        if (!load.keys)
            usage_error(role, "mechanism=curve needs keys=FOLDER");
        use_curve(load.keys);
    }
    allow_all_open_files();
    load.context = open_context(load.connections + load.frozen);
    end_in_time();
    role->run(&load);
    return 0;
}
