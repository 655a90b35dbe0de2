/*
 * A network of CZMQ's zgossip nodes measured the way an application uses them, for comparison with tidings.
 *
 *   czmq_gossip gossip key=value ...    play the role; README.md has its keys
 *   czmq_gossip --version               the versions of CZMQ and libzmq
 *
 * All nodes are actors of this process, linked over tcp on loopback; each has a thread of its own, libzmq one for
 * all connections, and the main thread takes what every node delivers. The status is 1 for an error, 2 for wrong
 * usage.
 */
#include <czmq.h>
#include <sys/resource.h>

/* What the keys of the command line say */
struct load {
    size_t nodes;
    const char *links; /* 0-1,1-2: node 0 connects to node 1, node 1 to node 2 */
    size_t each;       /* how many tuples each node publishes */
    size_t size;       /* of a value */
    const char *timeout; /* server/timeout in milliseconds; NULL is what nodes have by themselves */
    int64_t quiet;     /* milliseconds that the network stands before there is news */
    int64_t rest;      /* seconds at rest that are measured in the end */
    int64_t deadline;  /* seconds until a network that has not converged is said to never do so */
};

static zactor_t **actors;
static size_t *delivered;

static void fail(const char *what, const char *subject, int status)
{
    fprintf(stderr, "czmq_gossip: %s %s\n", what, subject);
    exit(status);
}

static struct load load_of(int argc, char **argv)
{
    struct load load = {.links = "", .size = 20, .quiet = 300, .deadline = 60};
    for (int index = 2; index < argc; index++) {
        char *value = strchr(argv[index], '=');
        if (!value)
            fail("no key=value:", argv[index], 2);
        *value++ = 0;
        const char *key = argv[index];
        if (streq(key, "nodes"))
            load.nodes = strtoul(value, NULL, 10);
        else if (streq(key, "links"))
            load.links = value;
        else if (streq(key, "each"))
            load.each = strtoul(value, NULL, 10);
        else if (streq(key, "size"))
            load.size = strtoul(value, NULL, 10);
        else if (streq(key, "timeout"))
            load.timeout = value;
        else if (streq(key, "quiet"))
            load.quiet = strtol(value, NULL, 10);
        else if (streq(key, "rest"))
            load.rest = strtol(value, NULL, 10);
        else if (streq(key, "deadline"))
            load.deadline = strtol(value, NULL, 10);
        else
            fail("no such key:", key, 2);
    }
    if (!load.nodes)
        fail("nodes=... is", "missing", 2);
    return load;
}

/* What went over loopback so far, headers included */
static unsigned long long octets_on_loopback(void)
{
    FILE *file = fopen("/proc/net/dev", "r");
    char line[512];
    unsigned long long octets = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, " lo: %llu", &octets) == 1)
            break;
    if (file)
        fclose(file);
    return octets;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* A message whole; whether it was a delivery. Its frames are looked at where they are, which is the cheapest way */
static bool take_message(void *pipe)
{
    bool is_delivery = false;
    for (int frame = 0, more = 1; more; frame++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, pipe, 0) < 0)
            fail("can't receive from", "a node", 1);
        if (frame == 0)
            is_delivery = zmq_msg_size(&part) == 7 && memcmp(zmq_msg_data(&part), "DELIVER", 7) == 0;
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return is_delivery;
}

/* Takes deliveries until every node has had so many, or time is up; whether they have */
static bool take_until(size_t nodes, size_t wanted, int64_t deadline)
{
    zmq_pollitem_t *items = calloc(nodes, sizeof *items);
    size_t done = 0;
    for (size_t node = 0; node < nodes; node++) {
        items[node] = (zmq_pollitem_t){zsock_resolve(actors[node]), 0, ZMQ_POLLIN, 0};
        done += delivered[node] >= wanted;
    }
    while (done < nodes && zclock_mono() < deadline) {
        zmq_poll(items, (int)nodes, deadline - zclock_mono());
        for (size_t node = 0; node < nodes; node++) {
            uint32_t events = items[node].revents;
            while (events & ZMQ_POLLIN) {
                if (take_message(items[node].socket) && ++delivered[node] == wanted)
                    done++;
                size_t size = sizeof events;
                zmq_getsockopt(items[node].socket, ZMQ_EVENTS, &events, &size);
            }
        }
    }
    free(items);
    return done == nodes;
}

static void open_network(const struct load *load)
{
    int *ports = calloc(load->nodes, sizeof *ports);
    for (size_t node = 0; node < load->nodes; node++) {
        actors[node] = zactor_new(zgossip, NULL);
        if (load->timeout)
            zstr_sendx(actors[node], "SET", "server/timeout", load->timeout, NULL);
        zstr_sendx(actors[node], "BIND", "tcp://127.0.0.1:*", NULL);
        zstr_send(actors[node], "PORT");
        char *command, *port;
        zstr_recvx(actors[node], &command, &port, NULL);
        ports[node] = atoi(port);
        zstr_free(&command);
        zstr_free(&port);
    }
    char *links = strdup(load->links), *rest = NULL;
    for (char *link = strtok_r(links, ",", &rest); link; link = strtok_r(NULL, ",", &rest)) {
        size_t from = 0, to = 0;
        if (sscanf(link, "%zu-%zu", &from, &to) != 2 || from >= load->nodes || to >= load->nodes)
            fail("no link:", link, 2);
        char endpoint[64];
        snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", ports[to]);
        zstr_sendx(actors[from], "CONNECT", endpoint, NULL);
    }
    free(links);
    free(ports);
}

static void publish(const struct load *load, const char *prefix, size_t each, const char *value)
{
    char key[64];
    for (size_t number = 0; number < each; number++)
        for (size_t node = 0; node < load->nodes; node++) {
            snprintf(key, sizeof key, "%s-%zu-%zu", prefix, node, number);
            zstr_sendx(actors[node], "PUBLISH", key, value, NULL);
        }
}

static void play(const struct load *load)
{
    actors = calloc(load->nodes, sizeof *actors);
    delivered = calloc(load->nodes, sizeof *delivered);
    char *value = calloc(1, load->size + 1);
    memset(value, 'v', load->size);
    open_network(load);
    /* The network stands once each node has heard of each other; then links that were not needed for that get their time */
    publish(load, "ready", 1, "");
    if (!take_until(load->nodes, load->nodes, zclock_mono() + 10000))
        fail("the network", "did not stand after 10 s", 1);
    take_until(load->nodes, SIZE_MAX, zclock_mono() + load->quiet);

    unsigned long long before = octets_on_loopback();
    double cpu_before = cpu_seconds();
    int64_t began = zclock_usecs();
    publish(load, "key", load->each, value);
    size_t wanted = load->nodes + load->nodes * load->each;
    bool converged = take_until(load->nodes, wanted, zclock_mono() + 1000 * load->deadline);
    double seconds = (zclock_usecs() - began) / 1e6;
    double cpu = cpu_seconds() - cpu_before;
    /* What is still on its way, to nodes that have it already, was sent for these tuples too */
    unsigned long long octets = octets_on_loopback(), earlier;
    int64_t settled_by = zclock_mono() + 1000 * load->deadline;
    do {
        earlier = octets;
        take_until(load->nodes, SIZE_MAX, zclock_mono() + 1000);
        octets = octets_on_loopback();
    } while (converged && octets - earlier > (octets - before) / 20 && zclock_mono() < settled_by);
    unsigned long long rest_began = octets;
    if (load->rest)
        take_until(load->nodes, SIZE_MAX, zclock_mono() + 1000 * load->rest);
    unsigned long long rest = octets_on_loopback() - rest_began;

    size_t total = 0, least = SIZE_MAX;
    for (size_t node = 0; node < load->nodes; node++) {
        total += delivered[node];
        least = delivered[node] < least ? delivered[node] : least;
    }
    printf("{\"role\":\"gossip\",\"nodes\":%zu,\"messages\":%zu,\"converged\":%s,", load->nodes, total,
           converged ? "true" : "false");
    if (converged)
        printf("\"seconds\":%.6f,", seconds);
    printf("\"least\":%zu,\"wanted\":%zu,\"octets\":%llu,", least, wanted, octets - before);
    if (load->rest)
        printf("\"rest_octets\":%llu,\"rest_octets_a_node_and_second\":%.3f,", rest,
               (double)rest / load->nodes / load->rest);
    printf("\"cpu_seconds\":%.6f}\n", cpu);
    fflush(stdout);
    /* Not one by one: with much on its way the end of a node takes as long as that */
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 2 && streq(argv[1], "--version")) {
        int major, minor, patch;
        zmq_version(&major, &minor, &patch);
        printf("czmq %d.%d.%d, libzmq %d.%d.%d\n", CZMQ_VERSION_MAJOR, CZMQ_VERSION_MINOR, CZMQ_VERSION_PATCH, major,
               minor, patch);
        return 0;
    }
    if (argc < 2 || !streq(argv[1], "gossip"))
        fail("usage: czmq_gossip", "gossip key=value ...", 2);
    struct load load = load_of(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    zsys_handler_set(NULL);
    /* Nodes and the application never wait for each other */
    zsys_set_pipehwm(0);
    play(&load);
}
