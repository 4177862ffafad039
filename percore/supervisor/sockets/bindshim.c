/*
 * The bind shim: an LD_PRELOAD library that makes the workers of a clustered app share one port.
 *
 * When a worker listens on a TCP or Unix address (or binds a UDP one), the shim asks the supervisor for the socket that
 * belongs to this worker's slot and puts it in place of the worker's own descriptor. The program notices nothing and
 * declares nothing. To bind alone shares nothing: the socket stays the worker's own, to connect from, or to close again.
 * It fails open: without a supervisor the program listens by itself, and one line on stderr says so.
 *
 * It needs no C library at build time and only two symbols of whichever one the program brings (glibc or musl), so one
 * build serves every Linux of an architecture. System calls are made directly.
 *
 * Words on the worker socket (percore/supervisor/sockets/broker.py is the other side):
 *   bind TOKEN PID FAMILY TYPE V6ONLY ADDRESS-IN-HEX\n   ->   "take\n" with a descriptor | "fail ERRNO\n" | "own\n" | "done\n"
 *     where it listens: the shared socket. "done": the socket is to stay as it is, as if it listened
 *   reserve, with the same words, where it binds what it could not bind by itself: a socket that is bound there, or "done"
 *   connect, with the same words, before it has listened anywhere: "fail" for what is the app's own, "done": ask no more
 *   unlink, with the same words, of a socket's path: "done" for what is the app's own, which stays
 *   closed TOKEN PID\n, alone TOKEN PID\n: it closed a shared socket; it listens on a port that the kernel chose
 * That the worker drains is no word: it is a mark on its listening sockets (percore/supervisor/sockets/worker_sockets.py).
 */

#define EXPORT __attribute__((visibility("default")))

typedef unsigned long size_type;
typedef unsigned int u32;
typedef unsigned char u8;

extern char *getenv(const char *) __attribute__((weak));
extern int *__errno_location(void) __attribute__((weak));

#if defined(__x86_64__)
enum { SYS_CLOSE = 3, SYS_SOCKET = 41, SYS_CONNECT = 42, SYS_SENDTO = 44, SYS_RECVMSG = 47, SYS_SHUTDOWN = 48, SYS_BIND = 49,
       SYS_LISTEN = 50, SYS_GETSOCKNAME = 51, SYS_SETSOCKOPT = 54, SYS_GETSOCKOPT = 55, SYS_NEWFSTATAT = 262, SYS_UNLINKAT = 263, SYS_FCNTL = 72, SYS_GETPID = 39, SYS_NANOSLEEP = 35,
       SYS_WRITE = 1, SYS_OPENAT = 257, SYS_DUP3 = 292, SYS_ACCEPT4 = 288, SYS_WRITEV = 20, SYS_SENDMSG = 46, SYS_PPOLL = 271 };
static void add_one(unsigned long *number) { __asm__ volatile("lock incq %0" : "+m"(*number) : : "cc"); }
static long call(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_CLOSE = 57, SYS_SOCKET = 198, SYS_CONNECT = 203, SYS_SENDTO = 206, SYS_RECVMSG = 212, SYS_SHUTDOWN = 210,
       SYS_BIND = 200, SYS_LISTEN = 201, SYS_GETSOCKNAME = 204, SYS_SETSOCKOPT = 208, SYS_GETSOCKOPT = 209,
       SYS_NEWFSTATAT = 79, SYS_UNLINKAT = 35, SYS_FCNTL = 25, SYS_GETPID = 172,
       SYS_NANOSLEEP = 101, SYS_WRITE = 64, SYS_OPENAT = 56, SYS_DUP3 = 24, SYS_ACCEPT4 = 242, SYS_WRITEV = 66,
       SYS_SENDMSG = 211, SYS_PPOLL = 73 };
static void add_one(unsigned long *number) {
    unsigned long value;
    u32 failed;
    __asm__ volatile("1: ldxr %0, %2\n\tadd %0, %0, #1\n\tstxr %w1, %0, %2\n\tcbnz %w1, 1b"
                     : "=&r"(value), "=&r"(failed), "+Q"(*number));
}
static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "the bind shim knows x86_64 and aarch64"
#endif

enum { UNIX = 1, INET = 2, INET6 = 10, STREAM = 1, DGRAM = 2, CLOEXEC = 02000000, SOL_SOCKET_LEVEL = 1, SO_TYPE_OPTION = 3,
       SO_REUSEADDR_OPTION = 2, SO_REUSEPORT_OPTION = 15, SO_ACCEPTCONN_OPTION = 30, IPV6_LEVEL = 41, V6ONLY_OPTION = 26, F_GETFD_COMMAND = 1, F_GETFL_COMMAND = 3,
       F_SETFL_COMMAND = 4, FD_CLOEXEC_FLAG = 1, NONBLOCK = 04000, E_INTR = 4, E_NOENT = 2, E_AGAIN = 11, E_CONNREFUSED = 111,
       E_ACCES = 13, E_ADDRINUSE = 98, E_INPROGRESS = 115, NO_SIGNAL = 0x4000, HERE = -100, NO_FOLLOW = 0x100, KIND_OF_FILE = 0170000,
       SOCKET_FILE = 0140000 };
#if defined(__aarch64__)
enum { DIRECTORY = 040000, PATH_ONLY = 010000000, MODE_IN_STAT = 16 };
#else
enum { DIRECTORY = 0200000, PATH_ONLY = 010000000, MODE_IN_STAT = 24 };
#endif

struct address { unsigned short family; u8 rest[126]; };
struct vector { void *base; size_type length; };
struct message { void *name; u32 name_length; struct vector *parts; size_type part_count; void *control; size_type control_length; int flags; };
struct rights { size_type length; int level; int type; int descriptor; int padding; };
struct pause { long seconds; long nanoseconds; };

/* What this process bound, at a port of its own choice or the kernel's, and what of it is the supervisor's since it listened. */
enum { KNOWN = 64, FREE = 0, BOUND, CHOSEN, SHARED };
static struct { int state; int descriptor; long process; u32 length; struct address address; } known[KNOWN];
static int known_end; /* behind the last one in use: close() looks no further */

static long fail_long(long negative_errno) {
    if (negative_errno >= 0 || negative_errno < -4095) return negative_errno;
    if (__errno_location) *__errno_location() = (int)-negative_errno;
    return -1;
}

static int fail(long negative_errno) { return (int)fail_long(negative_errno); }

static size_type length_of(const char *text) { size_type n = 0; while (text[n]) n++; return n; }

static int same(const void *left, const void *right, size_type length) {
    const u8 *a = left, *b = right;
    for (size_type i = 0; i < length; i++) if (a[i] != b[i]) return 0;
    return 1;
}

/* -fno-builtin does not keep compilers from calling these for struct copies and zeroing. */
void *memcpy(void *to, const void *from, size_type n) { u8 *t = to; const u8 *f = from; while (n--) *t++ = *f++; return to; }
void *memset(void *to, int value, size_type n) { u8 *t = to; while (n--) *t++ = (u8)value; return to; }

static char *put_text(char *at, const char *text) { while (*text) *at++ = *text++; return at; }

static char *put_number(char *at, unsigned long value) {
    char digits[24];
    int n = 0;
    do { digits[n++] = (char)('0' + value % 10); value /= 10; } while (value);
    while (n) *at++ = digits[--n];
    return at;
}

static void say(const char *text) {
    call(SYS_WRITE, 2, (long)text, (long)length_of(text), 0, 0, 0);
}

static int option_of(int descriptor, int level, int option, int otherwise) {
    int value = 0;
    u32 length = sizeof value;
    return call(SYS_GETSOCKOPT, descriptor, level, option, (long)&value, (long)&length, 0) == 0 ? value : otherwise;
}

/* Connects to the supervisor; a path too long for sun_path is reached through its folder's descriptor. */
static long connect_supervisor(const char *path) {
    struct address to = { UNIX, {0} };
    size_type length = length_of(path), folder_end = length;
    long folder = -1;
    char *at = (char *)to.rest;
    if (length < sizeof(to.rest) - 20) {
        at = put_text(at, path);
    } else {
        char name[4096];
        while (folder_end && path[folder_end] != '/') folder_end--;
        if (folder_end == 0 || folder_end >= sizeof name) return -E_NOENT;
        memcpy(name, path, folder_end);
        name[folder_end] = 0;
        folder = call(SYS_OPENAT, -100, (long)name, PATH_ONLY | DIRECTORY | CLOEXEC, 0, 0, 0);
        if (folder < 0) return folder;
        at = put_text(put_number(put_text(at, "/proc/self/fd/"), (unsigned long)folder), path + folder_end);
    }
    long descriptor = call(SYS_SOCKET, UNIX, STREAM | CLOEXEC, 0, 0, 0, 0);
    if (descriptor >= 0) {
        long result = call(SYS_CONNECT, descriptor, (long)&to, (at - (char *)&to) + 1, 0, 0, 0);
        if (result < 0) { call(SYS_CLOSE, descriptor, 0, 0, 0, 0, 0); descriptor = result; }
    }
    if (folder >= 0) call(SYS_CLOSE, folder, 0, 0, 0, 0, 0);
    return descriptor;
}

/* Asks once. Returns a descriptor, or a negative errno for the program, or one of these. */
enum { OWN = 1 << 20 /* do it yourself */, AGAIN = 1 << 21 /* ask again */, DONE = 1 << 22 /* nothing is left to do */ };

static long outcome_of(char *reply, const struct rights *rights, size_type control_length) {
    if (same(reply, "take", 4) && control_length >= sizeof(size_type) + 3 * sizeof(int)) return rights->descriptor;
    if (same(reply, "own", 3)) return OWN;
    if (same(reply, "done", 4)) return DONE;
    if (!same(reply, "fail ", 5)) return AGAIN;
    long number = 0;
    for (char *c = reply + 5; *c >= '0' && *c <= '9'; c++) number = number * 10 + (*c - '0');
    return number ? -number : -E_ADDRINUSE;
}

static long ask(const char *path, const char *request, size_type request_length) {
    long supervisor = connect_supervisor(path);
    if (supervisor == -E_NOENT || supervisor == -E_CONNREFUSED || supervisor == -E_AGAIN || supervisor == -E_INTR) return AGAIN;
    if (supervisor < 0) return OWN;
    long outcome = AGAIN;
    if (call(SYS_SENDTO, supervisor, (long)request, (long)request_length, NO_SIGNAL, 0, 0) == (long)request_length) {
        char reply[64] = {0};
        struct rights rights = {0};
        struct vector part = { reply, sizeof reply - 1 };
        struct message message = { 0, 0, &part, 1, &rights, sizeof rights, 0 };
        long got;
        do got = call(SYS_RECVMSG, supervisor, (long)&message, 0x40000000 /* MSG_CMSG_CLOEXEC */, 0, 0, 0); while (got == -E_INTR);
        if (got > 0) outcome = outcome_of(reply, &rights, message.control_length);
    }
    call(SYS_CLOSE, supervisor, 0, 0, 0, 0, 0);
    return outcome;
}

/* The supervisor's socket and our token; 0 where there is none, and all calls are the kernel's alone. */
static const char *supervisor_path(const char **token) {
    const char *path = getenv ? getenv("PERCORE_SOCKET") : 0;
    *token = getenv ? getenv("PERCORE_TOKEN") : 0;
    return path && *token && length_of(*token) <= 100 ? path : 0;
}

static char *put_words(char *at, const char *verb, const char *token) {
    at = put_text(put_text(put_text(at, verb), " "), token);
    return put_number(put_text(at, " "), (unsigned long)call(SYS_GETPID, 0, 0, 0, 0, 0, 0));
}

/* Asks about an address, in ten seconds at most: a supervisor that is being replaced is back long before. */
static long ask_about(const char *verb, int descriptor, const struct address *address, u32 length, int attempts) {
    const char *token, *path = supervisor_path(&token);
    if (!path) return OWN;
    char request[600], *at = put_text(put_words(request, verb, token), " ");
    int v6only = address->family == INET6 ? option_of(descriptor, IPV6_LEVEL, V6ONLY_OPTION, 0) : 0;
    at = put_text(put_number(at, address->family), " ");
    at = put_text(put_number(at, (unsigned long)option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, STREAM)), " ");
    at = put_text(put_number(at, (unsigned long)v6only), " ");
    for (u32 i = 0; i < length; i++) {
        u8 byte = ((const u8 *)address)[i];
        *at++ = "0123456789abcdef"[byte >> 4];
        *at++ = "0123456789abcdef"[byte & 15];
    }
    *at++ = '\n';
    long outcome = AGAIN;
    for (int attempt = 0; outcome == AGAIN && attempt < attempts; attempt++) {
        if (attempt) { struct pause pause = { 0, 50000000 }; call(SYS_NANOSLEEP, (long)&pause, 0, 0, 0, 0, 0); }
        outcome = ask(path, request, (size_type)(at - request));
    }
    if (outcome == AGAIN && attempts > 1)
        say("percore: the supervisor does not answer, so this worker binds its port alone and does not share it\n");
    return outcome == AGAIN ? OWN : outcome;
}
enum { PATIENT = 200, ONCE = 1 };

/* Tells the supervisor something that has no answer. */
static void tell(const char *verb) {
    const char *token, *path = supervisor_path(&token);
    if (!path) return;
    char request[200], *at = put_text(put_words(request, verb, token), "\n");
    ask(path, request, (size_type)(at - request));
}

static int is_shareable(const struct address *address, u32 length, int type) {
    if (!address || length > sizeof *address) return 0;
    if (address->family == INET && length >= 8) return (type == STREAM || type == DGRAM) && (address->rest[0] || address->rest[1]);
    if (address->family == INET6 && length >= 24) return (type == STREAM || type == DGRAM) && (address->rest[0] || address->rest[1]);
    if (address->family == UNIX && length > 3) return type == STREAM && address->rest[0];
    return 0;
}

static int find_known(int descriptor) {
    for (int i = 0; i < known_end; i++) if (known[i].state && known[i].descriptor == descriptor) return i;
    return -1;
}

/* Whether the descriptor is still the socket that was bound: programs close some in ways that we do not see. */
static int is_bound_as_known(int i) {
    struct address now;
    u32 length = sizeof now;
    if (call(SYS_GETSOCKNAME, known[i].descriptor, (long)&now, (long)&length, 0, 0, 0) != 0) return 0;
    if (now.family != known[i].address.family) return 0;
    int is_unbound = !now.rest[0] && !now.rest[1] && known[i].state == BOUND; /* it was told that it is bound */
    return now.family == UNIX || known[i].state == CHOSEN || is_unbound || same(now.rest, known[i].address.rest, 2);
}

/* True when an earlier descriptor of this process listens on the address: then a second one must fail as it always did. */
static int is_held(const struct address *address, u32 length) {
    for (int i = 0; i < known_end; i++) {
        if (known[i].state != SHARED || known[i].length != length || !same(&known[i].address, address, length)) continue;
        if (is_bound_as_known(i) && option_of(known[i].descriptor, SOL_SOCKET_LEVEL, SO_ACCEPTCONN_OPTION, 0)) return 1;
        known[i].state = FREE;
    }
    return 0;
}

static void remember(int state, int descriptor, const struct address *address, u32 length) {
    int i = find_known(descriptor);
    for (int j = 0; i < 0 && j < KNOWN; j++) if (!known[j].state) i = j;
    if (i < 0) return;
    known[i].state = state;
    known[i].descriptor = descriptor;
    known[i].process = call(SYS_GETPID, 0, 0, 0, 0, 0, 0);
    known[i].length = length;
    if (&known[i].address != address) memcpy(&known[i].address, address, length);
    if (known_end <= i) known_end = i + 1;
}

/* Puts a socket of the supervisor in the place of the program's own, which keeps its number and flags. */
static long replace(int descriptor, long taken) {
    long flags = call(SYS_FCNTL, descriptor, F_GETFL_COMMAND, 0, 0, 0, 0);
    long close_on_exec = call(SYS_FCNTL, descriptor, F_GETFD_COMMAND, 0, 0, 0, 0) & FD_CLOEXEC_FLAG;
    long taken_flags = call(SYS_FCNTL, taken, F_GETFL_COMMAND, 0, 0, 0, 0);
    call(SYS_FCNTL, taken, F_SETFL_COMMAND, (taken_flags & ~(long)NONBLOCK) | (flags & NONBLOCK), 0, 0, 0);
    long result = call(SYS_DUP3, taken, descriptor, close_on_exec ? CLOEXEC : 0, 0, 0, 0);
    call(SYS_CLOSE, taken, 0, 0, 0, 0, 0);
    return result < 0 ? result : 0;
}

static long bind_itself(int descriptor, const struct address *address, u32 length) {
    return call(SYS_BIND, descriptor, (long)address, length, 0, 0, 0);
}

EXPORT int bind(int descriptor, const struct address *address, u32 length) {
    const char *token;
    int type = option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0), on = 1;
    if (!is_shareable(address, length, type) || !supervisor_path(&token)) {
        long own = bind_itself(descriptor, address, length);
        if (own == 0 && type == STREAM && length <= sizeof *address) remember(CHOSEN, descriptor, address, length);
        return fail(own);
    }
    if (is_held(address, length) && !option_of(descriptor, SOL_SOCKET_LEVEL, SO_REUSEPORT_OPTION, 0)) return fail(-E_ADDRINUSE);
    long result = -E_ADDRINUSE;
    if (type == STREAM) {
        /* Without it two workers that are about to listen would be in each other's way. */
        if (address->family != UNIX)
            call(SYS_SETSOCKOPT, descriptor, SOL_SOCKET_LEVEL, SO_REUSEADDR_OPTION, (long)&on, sizeof on, 0);
        result = bind_itself(descriptor, address, length);
    }
    if (result == -E_ADDRINUSE || result == -E_ACCES) {
        long outcome = ask_about(type == STREAM ? "reserve" : "bind", descriptor, address, length, PATIENT);
        if (outcome == OWN) result = type == STREAM ? result : bind_itself(descriptor, address, length);
        else result = outcome == DONE ? 0 : outcome < 0 ? outcome : replace(descriptor, outcome);
    }
    if (result == 0) remember(type == STREAM ? BOUND : SHARED, descriptor, address, length);
    return fail(result);
}

/* Of a descriptor that is bound: now it is shared. */
static long share(int at, int backlog) {
    int descriptor = known[at].descriptor;
    const struct address *address = &known[at].address;
    u32 length = known[at].length;
    if (is_held(address, length) && !option_of(descriptor, SOL_SOCKET_LEVEL, SO_REUSEPORT_OPTION, 0)) return -E_ADDRINUSE;
    long outcome = ask_about("bind", descriptor, address, length, PATIENT);
    if (outcome < 0 || outcome == DONE) return outcome == DONE ? 0 : outcome;
    if (outcome == OWN) {
        known[at].state = FREE;
        return call(SYS_LISTEN, descriptor, backlog, 0, 0, 0, 0);
    }
    long result = replace(descriptor, outcome);
    if (result == 0) remember(SHARED, descriptor, address, length);
    return result;
}

/* What a launcher bound and a program that it started listens on: uvicorn and hypercorn do so with workers of their own. */
static int find_inherited(int descriptor) {
    struct address now;
    u32 length = sizeof now;
    if (option_of(descriptor, SOL_SOCKET_LEVEL, SO_ACCEPTCONN_OPTION, 1)
        || call(SYS_GETSOCKNAME, descriptor, (long)&now, (long)&length, 0, 0, 0) != 0
        || !is_shareable(&now, length, option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0))
        || (now.family == UNIX && now.rest[0] != '/')) return -1;
    remember(BOUND, descriptor, &now, length);
    return find_known(descriptor);
}

static int has_listened;

EXPORT int listen(int descriptor, int backlog) {
    const char *token;
    int at = find_known(descriptor);
    if (at >= 0 && !is_bound_as_known(at)) {
        known[at].state = FREE;
        at = -1;
    }
    has_listened = 1;
    if (at < 0 && supervisor_path(&token)) at = find_inherited(descriptor);
    if (at >= 0 && known[at].state == BOUND) return fail(share(at, backlog));
    /* A port that the kernel chose (0 was asked for) is the worker's own: there is nothing to share. */
    if (at < 0 || known[at].state == CHOSEN) {
        struct address now;
        u32 length = sizeof now;
        if (option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0) == STREAM
            && call(SYS_GETSOCKNAME, descriptor, (long)&now, (long)&length, 0, 0, 0) == 0
            && (now.family == INET || now.family == INET6)) tell("alone");
    /* A short backlog of one program (http.server asks for 5) would drop clients that wait while it restarts. */
    } else if (backlog < 4096) backlog = 4096;
    return fail(call(SYS_LISTEN, descriptor, backlog, 0, 0, 0, 0));
}

/* The supervisor holds the port open for its worker, so before that one listens, nothing but itself would answer there. */
static int is_loopback(const struct address *address, u32 length) {
    static const u8 one[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, none[16] = {0};
    if (address->family == INET && length >= 8) return address->rest[2] == 127 || same(address->rest + 2, none, 4);
    if (address->family == INET6 && length >= 24) return same(address->rest + 6, one, 16) || same(address->rest + 6, none, 16);
    return 0;
}

EXPORT int connect(int descriptor, const struct address *address, u32 length) {
    static int asks_no_more;
    int asks = 0;
    if (!has_listened && !asks_no_more && address && length <= sizeof *address && is_loopback(address, length)
        && option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0) == STREAM) {
        long outcome = ask_about("connect", descriptor, address, length, ONCE);
        if (outcome < 0) return fail(outcome);
        asks_no_more = outcome == DONE;
        asks = outcome == OWN;
    }
    long result = call(SYS_CONNECT, descriptor, (long)address, length, 0, 0, 0);
    if (asks && (result == 0 || result == -E_INPROGRESS)) { /* another worker may have begun to listen since the answer */
        static const struct address none;
        long outcome = ask_about("connect", descriptor, address, length, ONCE);
        if (outcome < 0) {
            call(SYS_CONNECT, descriptor, (long)&none, 16, 0, 0, 0); /* connect(2): dissolves it */
            return fail(outcome);
        }
    }
    return fail(result);
}

/* What a program closes is closed: the supervisor hears of it, and looks who else has it. */
static long close_one(long descriptor) {
    int at = known_end ? find_known((int)descriptor) : -1, state = FREE;
    /* Between vfork() and exec a child closes what its parent, whose memory it shares, goes on with. */
    if (at >= 0 && known[at].process == call(SYS_GETPID, 0, 0, 0, 0, 0, 0)) {
        state = known[at].state;
        known[at].state = FREE;
    }
    long result = call(SYS_CLOSE, descriptor, 0, 0, 0, 0, 0);
    if (state == SHARED) tell("closed");
    return result;
}

EXPORT int close(int descriptor) { return fail(close_one(descriptor)); }

/* libuv closes this way. */
EXPORT long syscall(long number, long a, long b, long c, long d, long e, long f) {
    return fail_long(number == SYS_CLOSE ? close_one(a) : call(number, a, b, c, d, e, f));
}

/* Programs remove the path of a socket before they bind it, and when they end: the app's own stays for the other workers. */
static int is_kept(const char *path) {
    const char *token;
    u8 found[256];
    if (!path || !supervisor_path(&token) || call(SYS_NEWFSTATAT, HERE, (long)path, (long)found, NO_FOLLOW, 0, 0) != 0) return 0;
    if ((*(u32 *)(found + MODE_IN_STAT) & KIND_OF_FILE) != SOCKET_FILE) return 0;
    struct address address = { UNIX, {0} };
    size_type length = length_of(path);
    if (length >= 108) return 0;
    memcpy(address.rest, path, length);
    return ask_about("unlink", -1, &address, (u32)(length + 3), ONCE) == DONE;
}

EXPORT int unlink(const char *path) {
    return is_kept(path) ? 0 : fail(call(SYS_UNLINKAT, HERE, (long)path, 0, 0, 0, 0));
}

EXPORT int unlinkat(int directory, const char *path, int flags) {
    int is_plain = flags == 0 && path && (directory == HERE || path[0] == '/');
    return is_plain && is_kept(path) ? 0 : fail(call(SYS_UNLINKAT, directory, (long)path, flags, 0, 0, 0));
}

EXPORT int shutdown(int descriptor, int how) {
    /* shutdown() of a shared listening socket would end it for every worker and reorder the kernel's group. */
    int at = find_known(descriptor);
    if (at >= 0 && known[at].state == SHARED && option_of(descriptor, SOL_SOCKET_LEVEL, SO_ACCEPTCONN_OPTION, 0)) return 0;
    return fail(call(SYS_SHUTDOWN, descriptor, how, 0, 0, 0, 0));
}

/*
 * How many TCP connections the program took: the kernel keeps no such count. `percore monit` finds it by its name in the memory
 * of the process, so that counting costs one instruction and nobody has to be told.
 */
static struct { char name[16]; unsigned long count; } accepted __attribute__((used)) = { "percore-accepted", 0 };

EXPORT int accept4(int descriptor, struct address *address, u32 *length, int flags) {
    struct address from = { 0, {0} };
    u32 from_length = sizeof from;
    long got = address ? call(SYS_ACCEPT4, descriptor, (long)address, (long)length, flags, 0, 0)
                       : call(SYS_ACCEPT4, descriptor, (long)&from, (long)&from_length, flags, 0, 0);
    int family = address ? address->family : from.family;
    if (got >= 0 && (family == INET || family == INET6)) add_one(&accepted.count);
    return fail(got);
}

EXPORT int accept(int descriptor, struct address *address, u32 *length) { return accept4(descriptor, address, length, 0); }

/*
 * While the worker drains, each HTTP/1 response that begins says "Connection: close": the client comes back over a new
 * connection, which leads to another worker. Programs that are never told to drain, or only by a signal that cuts their
 * connections, so lose no request. What is encrypted by the program itself, or HTTP/2, passes as it is.
 */
enum { TCP_LEVEL = 6, SYN_COUNT_OPTION = 7, TCP_INFO_OPTION = 11, COOKIE_OPTION = 57, DRAINS = 113, RECEIVED_IN_INFO = 128,
       MOST_PARTS = 64, USUAL_FLAGS = NO_SIGNAL | 0x8000 /* MSG_MORE */ | 0x40 /* MSG_DONTWAIT */, BOTH_WAYS = 2, E_PIPE = 32,
       PLAIN = -5000 /* the call is to be made as it is */ };
static const char CLOSE_LINE[] = "Connection: close\r\n", KEEP_ALIVE[] = "keep-alive", CLOSE_VALUE[] = "     close";
enum { LINE_LENGTH = sizeof CLOSE_LINE - 1, VALUE_LENGTH = sizeof KEEP_ALIVE - 1 };

/* A status line of 200 or more. */
static int begins_response(const u8 *text, size_type length) {
    return known_end && length > 15 && text[0] == 'H' && same(text, "HTTP/1.", 7) && (text[7] == '1' || text[7] == '0')
        && text[8] == ' ' && text[9] >= '2' && text[9] <= '5';
}

static int is_on_draining_port(int descriptor) {
    for (int i = 0; i < known_end; i++) {
        if (known[i].state != SHARED || known[i].address.family == UNIX
            || option_of(known[i].descriptor, TCP_LEVEL, SYN_COUNT_OPTION, 0) != DRAINS) continue;
        struct address now;
        u32 length = sizeof now;
        if (call(SYS_GETSOCKNAME, descriptor, (long)&now, (long)&length, 0, 0, 0) == 0
            && (now.family == INET || now.family == INET6) && same(now.rest, known[i].address.rest, 2)) return 1;
    }
    return 0;
}

/*
 * A body may begin as a response does. So of what is written after one and the same byte of the client, only the first is a
 * response: connections are known by the kernel's cookie, requests by how many bytes have arrived.
 */
struct request { unsigned long connection, received; };
static struct request answered[256];

static int find_request(int descriptor, struct request *found) {
    u8 info[RECEIVED_IN_INFO + sizeof found->received];
    u32 info_length = sizeof info, cookie_length = sizeof found->connection;
    if (call(SYS_GETSOCKOPT, descriptor, TCP_LEVEL, TCP_INFO_OPTION, (long)info, (long)&info_length, 0) != 0
        || call(SYS_GETSOCKOPT, descriptor, SOL_SOCKET_LEVEL, COOKIE_OPTION, (long)&found->connection, (long)&cookie_length, 0) != 0
        || info_length < sizeof info) return 0;
    memcpy(&found->received, info + RECEIVED_IN_INFO, sizeof found->received);
    const struct request *last = &answered[found->connection % 256];
    return found->received && (last->connection != found->connection || last->received != found->received);
}

static int same_word(const u8 *text, const char *lower, size_type length) {
    for (size_type i = 0; i < length; i++) if ((text[i] | (text[i] >= 'A' && text[i] <= 'Z' ? 32 : 0)) != (u8)lower[i]) return 0;
    return 1;
}

/* Where the client can be told: behind the status line, or, if `is_replaced`, where "keep-alive" is. 0: nowhere. */
static size_type find_place(const u8 *text, size_type length, int *is_replaced) {
    size_type at = 0, line = 0;
    while (at < length) {
        while (at < length && text[at] != '\n') at++;
        if (at++ == length) break;
        if (!line) line = at;
        if (at + 11 > length || text[at] == '\r' || text[at] == '\n') break;
        if (!same_word(text + at, "connection:", 11)) continue;
        at += 11;
        while (at < length && text[at] == ' ') at++;
        *is_replaced = at + VALUE_LENGTH < length && same_word(text + at, KEEP_ALIVE, VALUE_LENGTH);
        return *is_replaced ? at : 0;
    }
    return text[7] == '1' ? line : 0; /* HTTP/1.0 keeps only what it says it keeps */
}

/* The kernel took `taken` bytes: how many of them are the caller's. A line that went out in part is completed. */
static long count_own(int descriptor, size_type taken, size_type place) {
    size_type end = place + LINE_LENGTH;
    if (taken <= place) return (long)taken;
    for (int attempt = 0; taken < end && attempt < 10; attempt++) {
        long more = call(SYS_SENDTO, descriptor, (long)CLOSE_LINE + (long)(taken - place), (long)(end - taken), NO_SIGNAL, 0, 0);
        if (more > 0) taken += (size_type)more;
        if (more != -E_AGAIN) continue;
        struct { int descriptor; short wanted, found; } until = { descriptor, 4 /* POLLOUT */, 0 };
        struct pause pause = { 0, 100000000 };
        call(SYS_PPOLL, (long)&until, 1, (long)&pause, 0, 0, 0);
    }
    if (taken >= end) return (long)(taken - LINE_LENGTH);
    call(SYS_SHUTDOWN, descriptor, BOTH_WAYS, 0, 0, 0, 0); /* who takes nothing for so long gets nothing that is incomplete */
    return -E_PIPE;
}

/* Sends a response with that line in it; what it returns is what the caller's own call would. */
static long send_last(int descriptor, const struct vector *given, size_type count, int flags) {
    int is_replaced = 0;
    struct request request;
    const struct vector *first = given;
    if (count > MOST_PARTS || (flags & ~USUAL_FLAGS) || !is_on_draining_port(descriptor)
        || !find_request(descriptor, &request)) return PLAIN;
    size_type place = find_place(first->base, first->length, &is_replaced), behind = place + (is_replaced ? VALUE_LENGTH : 0);
    if (!place) return PLAIN;
    struct vector parts[MOST_PARTS + 2];
    parts[0] = (struct vector){ first->base, place };
    parts[1] = (struct vector){ (void *)(is_replaced ? CLOSE_VALUE : CLOSE_LINE), is_replaced ? VALUE_LENGTH : LINE_LENGTH };
    parts[2] = (struct vector){ (u8 *)first->base + behind, first->length - behind };
    for (size_type i = 1; i < count; i++) parts[i + 2] = given[i];
    struct message message = { 0, 0, parts, count + 2, 0, 0, 0 };
    long taken = call(SYS_SENDMSG, descriptor, (long)&message, flags, 0, 0, 0);
    if (taken <= 0) return taken;
    answered[request.connection % 256] = request;
    return is_replaced ? taken : count_own(descriptor, (size_type)taken, place);
}

static long send_if_last(int descriptor, const struct vector *given, size_type count, int flags) {
    return count && given && begins_response(given->base, given->length) ? send_last(descriptor, given, count, flags) : PLAIN;
}

EXPORT long write(int descriptor, const void *bytes, size_type length) {
    struct vector whole = { (void *)bytes, length };
    long taken = send_if_last(descriptor, &whole, 1, 0);
    return fail_long(taken == PLAIN ? call(SYS_WRITE, descriptor, (long)bytes, (long)length, 0, 0, 0) : taken);
}

EXPORT long writev(int descriptor, const struct vector *parts, int count) {
    long taken = count > 0 ? send_if_last(descriptor, parts, (size_type)count, 0) : PLAIN;
    return fail_long(taken == PLAIN ? call(SYS_WRITEV, descriptor, (long)parts, count, 0, 0, 0) : taken);
}

EXPORT long sendto(int descriptor, const void *bytes, size_type length, int flags, const struct address *to, u32 to_length) {
    struct vector whole = { (void *)bytes, length };
    long taken = to ? PLAIN : send_if_last(descriptor, &whole, 1, flags);
    return fail_long(taken == PLAIN ? call(SYS_SENDTO, descriptor, (long)bytes, (long)length, flags, (long)to, to_length) : taken);
}

EXPORT long send(int descriptor, const void *bytes, size_type length, int flags) {
    return sendto(descriptor, bytes, length, flags, 0, 0);
}

EXPORT long sendmsg(int descriptor, const struct message *message, int flags) {
    int is_plain = !message || message->name || message->control_length;
    long taken = is_plain ? PLAIN : send_if_last(descriptor, message->parts, message->part_count, flags);
    return fail_long(taken == PLAIN ? call(SYS_SENDMSG, descriptor, (long)message, flags, 0, 0, 0) : taken);
}
