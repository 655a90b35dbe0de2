/* Nodes of CZMQ's zgossip for the interoperability tests, steered by lines: one command, one answer, in order.

   The program hosts as many nodes as it is told to, and raw sockets beside them that speak the protocol's octets. It takes
   what nodes deliver as it comes, and counts it; a test that wants something to have happened waits for it by a command with
   a deadline. It ends when its standard input does.

   A KEY or VALUE is its text, or `hex:6b31`, or `size:1048576:x` for so many of one letter; `-` is the empty one. What the
   program says of keys and values is always `hex:…`. NODE and RAW are names of the test's choice.

   START NODE                       ok                       zactor_new
   BIND NODE ENDPOINT               ok PORT                  as the actor's own PORT says it: -1 after a failure
   CONNECT NODE ENDPOINT            ok
   PUBLISH NODE KEY VALUE           ok
   MANY NODE PREFIX COUNT SIZE      ok                       keys PREFIX-0 and up, values that begin with the number
   SET NODE PATH VALUE              ok                       also LOAD NODE FILE, SAVE NODE FILE, VERBOSE NODE
   PORT NODE                        ok PORT
   STATUS NODE [MS]                 ok TUPLES, or dead       waits for the reply; after a stop of its reactor there is none
   ENDED NODE MS                    ok, or late               waits for its reactor to stop
   TERM NODE                        ok                       zactor_destroy; its name is free again
   COUNT NODE                       ok DELIVERIES TUPLES     of what was delivered: messages, and keys among them
   TABLE NODE                       ok TUPLES, then a line KEY VALUE for each key, with the value delivered last
   LOG NODE                         ok MESSAGES, then a line each, as the actor sent them (DELIVER KEY VALUE, STATUS TUPLES)
   WAIT NODE deliveries COUNT MS    ok, or late DELIVERIES TUPLES
   WAIT NODE tuples COUNT MS        the same
   WAIT NODE value KEY VALUE MS     the same                 the value delivered last
   WAIT NODE quiet FOR MS           the same                 nothing delivered for so many milliseconds
   DEALER RAW ENDPOINT              ok                       connects
   ROUTER RAW ENDPOINT              ok ENDPOINT              binds
   SEND RAW HEX...                  ok                       one message, a frame each; `-` is an empty one
   RECV RAW MS                      ok HEX..., or late
   CLOSE RAW                        ok

   A command that can't be carried out is answered by `error WHY`. */

#include <czmq.h>

typedef struct {
    char *name;
    zactor_t *actor;
    zhashx_t *table;        /* what was delivered last, by key */
    zlistx_t *log;          /* what the actor sent, as it is printed */
    char *status, *port;    /* the replies that came last, until somebody takes them */
    size_t deliveries;
    int64_t delivered_at;
    bool ended;             /* the actor's reactor has stopped */
} node_t;

typedef struct {
    char *name;
    zsock_t *socket;
} raw_t;

enum { MOST = 64, LOG_MOST = 100000, STATUS_MS = 5000, AT_ONCE = 1000 };

static node_t nodes [MOST];
static raw_t raws [MOST];
static FILE *answers;

static void say (const char *format, ...)
{
    va_list arguments;
    va_start (arguments, format);
    vfprintf (answers, format, arguments);
    va_end (arguments);
}

/* Words: keys, values and frames */

static char *to_hex (const void *octets, size_t size)
{
    char *text = (char *) zmalloc (2 * size + 1);
    for (size_t index = 0; index < size; index++)
        sprintf (text + 2 * index, "%02x", ((const byte *) octets) [index]);
    return text;
}

static byte *from_hex (const char *text, size_t *size)
{
    *size = strlen (text) / 2;
    byte *octets = (byte *) zmalloc (*size + 1);
    for (size_t index = 0; index < *size; index++) {
        unsigned octet = 0;
        sscanf (text + 2 * index, "%2x", &octet);
        octets [index] = (byte) octet;
    }
    return octets;
}

/* The text that a word stands for; the caller frees it */
static char *text_of (const char *word)
{
    size_t size = 0;
    char letter = 0;
    if (streq (word, "-"))
        return strdup ("");
    if (strncmp (word, "hex:", 4) == 0)
        return (char *) from_hex (word + 4, &size);
    if (sscanf (word, "size:%zu:%c", &size, &letter) == 2) {
        char *text = (char *) zmalloc (size + 1);
        memset (text, letter, size);
        return text;
    }
    return strdup (word);
}

/* Nodes */

static node_t *node_named (const char *name)
{
    for (int index = 0; index < MOST; index++)
        if (nodes [index].name && streq (nodes [index].name, name))
            return &nodes [index];
    return NULL;
}

static void *duplicate (const void *text)
{
    return strdup ((const char *) text);
}

static void release (void **text)
{
    zstr_free ((char **) text);
}

static bool start (const char *name)
{
    for (int index = 0; index < MOST; index++) {
        node_t *node = &nodes [index];
        if (node->name)
            continue;
        *node = (node_t) { .name = strdup (name), .actor = zactor_new (zgossip, (void *) name) };
        node->table = zhashx_new ();
        zhashx_set_duplicator (node->table, duplicate);
        zhashx_set_destructor (node->table, release);
        node->log = zlistx_new ();
        zlistx_set_destructor (node->log, release);
        return true;
    }
    return false;
}

static void term (node_t *node)
{
    /* One that has ended by itself is waited for if it takes a word more: until its end of the pipe is closed */
    if (node->ended) {
        zsock_set_sndtimeo (node->actor, 0);
        while (zstr_send (node->actor, "") == 0)
            zclock_sleep (1);
    }
    zactor_destroy (&node->actor);
    zhashx_destroy (&node->table);
    zlistx_destroy (&node->log);
    zstr_free (&node->status);
    zstr_free (&node->port);
    zstr_free (&node->name);
}

static void note (node_t *node, zmsg_t *message)
{
    char *command = zmsg_popstr (message);
    char *first = zmsg_popstr (message);
    char *second = zmsg_popstr (message);
    char *line = NULL;
    if (command && streq (command, "DELIVER") && first && second) {
        zhashx_update (node->table, first, second);
        node->deliveries++;
        node->delivered_at = zclock_mono ();
        if (zlistx_size (node->log) < LOG_MOST) {
            char *key = to_hex (first, strlen (first));
            char *value = to_hex (second, strlen (second));
            line = zsys_sprintf ("DELIVER hex:%s hex:%s", key, value);
            free (key);
            free (value);
        }
    }
    else {
        line = zsys_sprintf ("%s %s", command ? command : "-", first ? first : "-");
        char **reply = command && streq (command, "STATUS") ? &node->status
                     : command && streq (command, "PORT") ? &node->port : NULL;
        if (reply) {
            zstr_free (reply);
            *reply = first;
            first = NULL;
        }
    }
    if (line)
        zlistx_add_end (node->log, line);
    zstr_free (&command);
    zstr_free (&first);
    zstr_free (&second);
}

/* Takes what the nodes have sent, and waits for that no longer than until the deadline; true once there is input */
static bool take (int64_t deadline, bool input)
{
    zmq_pollitem_t items [MOST + 1];
    node_t *polled [MOST + 1];
    int count = 0;
    items [count++] = (zmq_pollitem_t) { NULL, input ? STDIN_FILENO : -1, input ? ZMQ_POLLIN : 0, 0 };
    for (int index = 0; index < MOST; index++)
        if (nodes [index].name && !nodes [index].ended) {
            polled [count] = &nodes [index];
            items [count++] = (zmq_pollitem_t) { zsock_resolve (nodes [index].actor), 0, ZMQ_POLLIN, 0 };
        }
    int64_t left = deadline - zclock_mono ();
    zmq_poll (input ? items : items + 1, input ? count : count - 1, deadline < 0 ? -1 : left > 0 ? (long) left : 0);
    for (int index = 1; index < count; index++)
        /* Not for ever: values that chase each other never end */
        for (int taken = 0; taken < AT_ONCE && zsock_events (polled [index]->actor) & ZMQ_POLLIN; taken++) {
            zmsg_t *message = zmsg_recv (polled [index]->actor);
            if (message && zmsg_signal (message) >= 0)
                polled [index]->ended = true;
            else if (message)
                note (polled [index], message);
            zmsg_destroy (&message);
            if (polled [index]->ended)
                break;
        }
    return input && items [0].revents;
}

/* Waits for a reply of the actor's; NULL if there is none */
static char *asked (node_t *node, const char *question, char **reply, int64_t patience)
{
    zstr_free (reply);
    int64_t deadline = zclock_mono () + patience;
    if (!node->ended)
        zstr_send (node->actor, question);
    while (!*reply && !node->ended && zclock_mono () < deadline)
        take (deadline, false);
    return *reply;
}

static bool is_so (node_t *node, char **words)
{
    if (streq (words [2], "deliveries"))
        return node->deliveries >= (size_t) atol (words [3]);
    if (streq (words [2], "tuples"))
        return zhashx_size (node->table) >= (size_t) atol (words [3]);
    if (streq (words [2], "quiet"))
        return zclock_mono () - node->delivered_at >= atol (words [3]);
    char *key = text_of (words [3]);
    char *wanted = text_of (words [4]);
    const char *value = (const char *) zhashx_lookup (node->table, key);
    bool is = value && streq (value, wanted);
    free (key);
    free (wanted);
    return is;
}

static void wait_for (node_t *node, char **words, int count)
{
    int64_t deadline = zclock_mono () + atol (words [count - 1]);
    bool quiet = streq (words [2], "quiet");
    if (quiet)
        node->delivered_at = zclock_mono ();
    while (!is_so (node, words) && zclock_mono () < deadline) {
        int64_t quiet_at = node->delivered_at + atol (words [3]);
        take (quiet && quiet_at < deadline ? quiet_at : deadline, false);
    }
    say ("%s %zu %zu\n", is_so (node, words) ? "ok" : "late", node->deliveries, zhashx_size (node->table));
}

static void publish (node_t *node, const char *key_word, const char *value_word)
{
    char *key = text_of (key_word);
    char *value = text_of (value_word);
    zstr_sendx (node->actor, "PUBLISH", key, value, NULL);
    free (key);
    free (value);
}

static void publish_many (node_t *node, const char *prefix, long count, long size)
{
    for (long number = 0; number < count; number++) {
        char *key = zsys_sprintf ("%s-%ld", prefix, number);
        char *value = zsys_sprintf ("%ld%*s", number, (int) (size > 20 ? size - 20 : 0), "");
        zstr_sendx (node->actor, "PUBLISH", key, value, NULL);
        zstr_free (&key);
        zstr_free (&value);
    }
}

static void print_table (node_t *node)
{
    say ("ok %zu\n", zhashx_size (node->table));
    for (char *value = (char *) zhashx_first (node->table); value; value = (char *) zhashx_next (node->table)) {
        const char *key = (const char *) zhashx_cursor (node->table);
        char *key_hex = to_hex (key, strlen (key));
        char *value_hex = to_hex (value, strlen (value));
        say ("hex:%s hex:%s\n", key_hex, value_hex);
        free (key_hex);
        free (value_hex);
    }
}

static void print_log (node_t *node)
{
    say ("ok %zu\n", zlistx_size (node->log));
    for (char *line = (char *) zlistx_first (node->log); line; line = (char *) zlistx_next (node->log))
        say ("%s\n", line);
}

/* A command of a node that is there; false for one that has no such form */
static bool command_node (node_t *node, char **words, int count)
{
    const char *verb = words [0];
    if (streq (verb, "BIND") && count == 3) {
        zstr_sendx (node->actor, "BIND", words [2], NULL);
        char *port = asked (node, "PORT", &node->port, STATUS_MS);
        say (port ? "ok %s\n" : "dead\n", port);
    }
    else if (streq (verb, "PORT") && count == 2) {
        char *port = asked (node, "PORT", &node->port, STATUS_MS);
        say (port ? "ok %s\n" : "dead\n", port);
    }
    else if (streq (verb, "STATUS") && (count == 2 || count == 3)) {
        char *status = asked (node, "STATUS", &node->status, count == 3 ? atol (words [2]) : STATUS_MS);
        say (status ? "ok %s\n" : "dead\n", status);
    }
    else if (streq (verb, "ENDED") && count == 3) {
        int64_t deadline = zclock_mono () + atol (words [2]);
        while (!node->ended && zclock_mono () < deadline)
            take (deadline, false);
        say ("%s\n", node->ended ? "ok" : "late");
    }
    else if (streq (verb, "COUNT") && count == 2)
        say ("ok %zu %zu\n", node->deliveries, zhashx_size (node->table));
    else if (streq (verb, "TABLE") && count == 2)
        print_table (node);
    else if (streq (verb, "LOG") && count == 2)
        print_log (node);
    else if (streq (verb, "WAIT") && (count == 5 || (count == 6 && streq (words [2], "value"))))
        wait_for (node, words, count);
    else {
        if (streq (verb, "CONNECT") && count == 3)
            zstr_sendx (node->actor, "CONNECT", words [2], NULL);
        else if (streq (verb, "PUBLISH") && count == 4)
            publish (node, words [2], words [3]);
        else if (streq (verb, "MANY") && count == 5)
            publish_many (node, words [2], atol (words [3]), atol (words [4]));
        else if (streq (verb, "SET") && count == 4)
            zstr_sendx (node->actor, "SET", words [2], words [3], NULL);
        else if ((streq (verb, "LOAD") || streq (verb, "SAVE")) && count == 3)
            zstr_sendx (node->actor, verb, words [2], NULL);
        else if (streq (verb, "VERBOSE") && count == 2)
            zstr_send (node->actor, verb);
        else if (streq (verb, "TERM") && count == 2)
            term (node);
        else
            return false;
        say ("ok\n");
    }
    return true;
}

/* Raw sockets */

static raw_t *raw_named (const char *name)
{
    for (int index = 0; index < MOST; index++)
        if (name ? raws [index].name && streq (raws [index].name, name) : !raws [index].name)
            return &raws [index];
    return NULL;
}

static void open_raw (const char *type, const char *name, const char *endpoint)
{
    raw_t *raw = raw_named (NULL);
    bool binds = streq (type, "ROUTER");
    zsock_t *socket = zsock_new (binds ? ZMQ_ROUTER : ZMQ_DEALER);
    zsock_set_linger (socket, 0);
    if (!raw || (binds ? zsock_bind (socket, "%s", endpoint) : zsock_connect (socket, "%s", endpoint)) == -1) {
        say ("error %s\n", zmq_strerror (errno));
        zsock_destroy (&socket);
        return;
    }
    *raw = (raw_t) { strdup (name), socket };
    say (binds ? "ok %s\n" : "ok\n", zsock_endpoint (socket));
}

static bool command_raw (raw_t *raw, char **words, int count)
{
    const char *verb = words [0];
    if (streq (verb, "SEND") && count >= 3) {
        zmsg_t *message = zmsg_new ();
        for (int index = 2; index < count; index++) {
            size_t size;
            byte *octets = from_hex (streq (words [index], "-") ? "" : words [index], &size);
            zmsg_addmem (message, octets, size);
            free (octets);
        }
        zsock_set_sndtimeo (raw->socket, STATUS_MS);
        say ("%s\n", zmsg_send (&message, raw->socket) == 0 ? "ok" : "error not sent");
        zmsg_destroy (&message);
    }
    else if (streq (verb, "RECV") && count == 3) {
        zsock_set_rcvtimeo (raw->socket, atoi (words [2]));
        zmsg_t *message = zmsg_recv (raw->socket);
        say (message ? "ok" : "late");
        for (zframe_t *frame = message ? zmsg_first (message) : NULL; frame; frame = zmsg_next (message)) {
            char *hex = to_hex (zframe_data (frame), zframe_size (frame));
            say (" %s", *hex ? hex : "-");
            free (hex);
        }
        say ("\n");
        zmsg_destroy (&message);
    }
    else if (streq (verb, "CLOSE") && count == 2) {
        zsock_destroy (&raw->socket);
        zstr_free (&raw->name);
        say ("ok\n");
    }
    else
        return false;
    return true;
}

static void carry_out (char *line)
{
    char *words [MOST], *rest = NULL;
    int count = 0;
    for (char *word = strtok_r (line, " \n", &rest); word && count < MOST; word = strtok_r (NULL, " \n", &rest))
        words [count++] = word;
    if (count < 2) {
        say ("error no command and name\n");
        return;
    }
    node_t *node = node_named (words [1]);
    raw_t *raw = raw_named (words [1]);
    if (streq (words [0], "START") && count == 2 && !node)
        say ("%s\n", start (words [1]) ? "ok" : "error too many nodes");
    else if ((streq (words [0], "DEALER") || streq (words [0], "ROUTER")) && count == 3 && !raw)
        open_raw (words [0], words [1], words [2]);
    else if (!(node && command_node (node, words, count)) && !(raw && command_raw (raw, words, count)))
        say ("error %s is no command of %s\n", words [0], words [1]);
}

/* The next command; NULL at the end. What nodes deliver meanwhile is taken. The caller frees it */
static char *next_line (void)
{
    static char *input;
    static size_t filled, room;
    for (;;) {
        char *end = filled ? (char *) memchr (input, '\n', filled) : NULL;
        if (end) {
            size_t size = end + 1 - input;
            char *line = strndup (input, size);
            filled -= size;
            memmove (input, end + 1, filled);
            return line;
        }
        if (!take (-1, true))
            continue;
        if (room - filled < 65536)
            input = (char *) realloc (input, room += 65536 + room);
        ssize_t got = read (STDIN_FILENO, input + filled, room - filled);
        if (got <= 0) {
            free (input);
            return NULL;
        }
        filled += got;
    }
}

int main (void)
{
    zsys_handler_set (NULL);
    /* Nodes log to the standard output, whatever they are told: answers have it to themselves, the log goes to stderr */
    answers = fdopen (dup (STDOUT_FILENO), "w");
    dup2 (STDERR_FILENO, STDOUT_FILENO);
    /* Nodes and this program never wait for each other */
    zsys_set_pipehwm (0);
    for (char *line = next_line (); line; line = next_line ()) {
        carry_out (line);
        fflush (answers);
        free (line);
    }
    for (int index = 0; index < MOST; index++) {
        if (nodes [index].name)
            term (&nodes [index]);
        if (raws [index].name) {
            zsock_destroy (&raws [index].socket);
            zstr_free (&raws [index].name);
        }
    }
    return 0;
}
