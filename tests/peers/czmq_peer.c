/* A CZMQ peer for the interoperability tests: certificates (zcert), an authenticator (zauth), and sockets under CURVE.

   czmq_peer cert-new FILE NAME=VALUE...          makes a certificate, saves FILE and FILE_secret, prints its keys
   czmq_peer cert-load FILE                       loads one and prints what is in it
   czmq_peer server CERTIFICATE ALLOWED [DOMAIN]  a REP that echoes; ALLOWED is a folder of public certificates, or *
   czmq_peer client CERTIFICATE SERVER ENDPOINT TEXT   a REQ that asks once; SERVER is a file with the server's public key

   A server prints `port N` once it listens, then a line `got USER TEXT` for each request, and ends when its standard
   input does. A client prints `reply TEXT` or, after two seconds without one, `silence`. */

#include <czmq.h>

static int fail (const char *what, const char *name)
{
    fprintf (stderr, "czmq_peer: %s: %s\n", what, name);
    return 1;
}

static void print_certificate (zcert_t *cert)
{
    printf ("public %s\nsecret %s\n", zcert_public_txt (cert), zcert_secret_txt (cert));
    zlist_t *names = zcert_meta_keys (cert);
    for (const char *name = zlist_first (names); name; name = zlist_next (names))
        printf ("meta %s %s\n", name, zcert_meta (cert, name));
    zlist_destroy (&names);
}

static int new_certificate (int argc, char **argv)
{
    zcert_t *cert = zcert_new ();
    for (int index = 3; index < argc; index++) {
        char *value = strchr (argv [index], '=');
        if (!value)
            return fail ("not NAME=VALUE", argv [index]);
        *value++ = 0;
        zcert_set_meta (cert, argv [index], "%s", value);
    }
    if (zcert_save (cert, argv [2]))
        return fail ("can't save", argv [2]);
    print_certificate (cert);
    zcert_destroy (&cert);
    return 0;
}

static int load_certificate (const char *file)
{
    zcert_t *cert = zcert_load (file);
    if (!cert)
        return fail ("can't load", file);
    print_certificate (cert);
    zcert_destroy (&cert);
    return 0;
}

static int serve (const char *file, const char *allowed, const char *domain)
{
    zcert_t *cert = zcert_load (file);
    if (!cert)
        return fail ("can't load", file);
    zactor_t *auth = zactor_new (zauth, NULL);
    zstr_sendx (auth, "CURVE", streq (allowed, "*") ? CURVE_ALLOW_ANY : allowed, NULL);
    zsock_wait (auth);
    zsock_t *rep = zsock_new (ZMQ_REP);
    if (*domain)
        zsock_set_zap_domain (rep, domain);
    zcert_apply (cert, rep);
    zsock_set_curve_server (rep, 1);
    int port = zsock_bind (rep, "tcp://127.0.0.1:*");
    if (port < 0)
        return fail ("can't bind", "tcp://127.0.0.1:*");
    printf ("port %d\n", port);
    fflush (stdout);
    zmq_pollitem_t items [] = { { zsock_resolve (rep), 0, ZMQ_POLLIN, 0 }, { NULL, 0, ZMQ_POLLIN, 0 } };
    while (zmq_poll (items, 2, -1) >= 0 && !(items [1].revents)) {
        zframe_t *frame = zframe_recv (rep);
        if (!frame)
            break;
        const char *user = zframe_meta (frame, "User-Id");
        char *text = zframe_strdup (frame);
        printf ("got %s %s\n", user ? user : "-", text);
        fflush (stdout);
        zstr_send (rep, text);
        zstr_free (&text);
        zframe_destroy (&frame);
    }
    zsock_destroy (&rep);
    zactor_destroy (&auth);
    zcert_destroy (&cert);
    return 0;
}

static int ask (const char *file, const char *server, const char *endpoint, const char *text)
{
    zcert_t *cert = zcert_load (file);
    zcert_t *theirs = zcert_load (server);
    if (!cert || !theirs)
        return fail ("can't load", cert ? server : file);
    zsock_t *req = zsock_new (ZMQ_REQ);
    zcert_apply (cert, req);
    zsock_set_curve_serverkey (req, zcert_public_txt (theirs));
    zsock_set_rcvtimeo (req, 2000);
    zsock_set_sndtimeo (req, 2000);
    zsock_set_linger (req, 0);
    if (zsock_connect (req, "%s", endpoint))
        return fail ("can't connect to", endpoint);
    char *reply = zstr_send (req, text) == 0 ? zstr_recv (req) : NULL;
    if (reply)
        printf ("reply %s\n", reply);
    else
        puts ("silence");
    zstr_free (&reply);
    zsock_destroy (&req);
    zcert_destroy (&cert);
    zcert_destroy (&theirs);
    return 0;
}

int main (int argc, char **argv)
{
    setvbuf (stdout, NULL, _IOLBF, 0);
    zsys_handler_set (NULL);
    const char *what = argc > 1 ? argv [1] : "";
    if (streq (what, "cert-new") && argc >= 3)
        return new_certificate (argc, argv);
    if (streq (what, "cert-load") && argc == 3)
        return load_certificate (argv [2]);
    if (streq (what, "server") && (argc == 4 || argc == 5))
        return serve (argv [2], argv [3], argc == 5 ? argv [4] : "");
    if (streq (what, "client") && argc == 6)
        return ask (argv [2], argv [3], argv [4], argv [5]);
    return fail ("use", "cert-new FILE NAME=VALUE... | cert-load FILE | server CERTIFICATE ALLOWED [DOMAIN] | "
                        "client CERTIFICATE SERVER ENDPOINT TEXT");
}
