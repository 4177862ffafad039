/*
 * The bind shim: an LD_PRELOAD library that makes the workers of a clustered app share one port.
 *
 * When a worker binds a TCP, UDP or Unix address, the shim asks the supervisor for the socket that belongs to this
 * worker's slot and puts it in place of the worker's own descriptor. The program notices nothing and declares nothing.
 * It fails open: without a supervisor the program binds by itself, and one line on stderr says so.
 *
 * It needs no C library at build time and only two symbols of whichever one the program brings (glibc or musl), so one
 * build serves every Linux of an architecture. System calls are made directly.
 *
 * Words on the worker socket (percore/supervisor/sockets/broker.py is the other side):
 *   bind TOKEN PID FAMILY TYPE V6ONLY ADDRESS-IN-HEX\n   ->   "take\n" with a descriptor | "fail ERRNO\n" | "own\n"
 */

#define EXPORT __attribute__((visibility("default")))

typedef unsigned long size_type;
typedef unsigned int u32;
typedef unsigned char u8;

extern char *getenv(const char *) __attribute__((weak));
extern int *__errno_location(void) __attribute__((weak));

#if defined(__x86_64__)
enum { SYS_CLOSE = 3, SYS_SOCKET = 41, SYS_CONNECT = 42, SYS_SENDTO = 44, SYS_RECVMSG = 47, SYS_SHUTDOWN = 48, SYS_BIND = 49,
       SYS_LISTEN = 50, SYS_GETSOCKNAME = 51, SYS_GETSOCKOPT = 55, SYS_FCNTL = 72, SYS_GETPID = 39, SYS_NANOSLEEP = 35,
       SYS_WRITE = 1, SYS_OPENAT = 257, SYS_DUP3 = 292, SYS_ACCEPT4 = 288 };
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
       SYS_BIND = 200, SYS_LISTEN = 201, SYS_GETSOCKNAME = 204, SYS_GETSOCKOPT = 209, SYS_FCNTL = 25, SYS_GETPID = 172,
       SYS_NANOSLEEP = 101, SYS_WRITE = 64, SYS_OPENAT = 56, SYS_DUP3 = 24, SYS_ACCEPT4 = 242 };
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
       SO_REUSEPORT_OPTION = 15, IPV6_LEVEL = 41, V6ONLY_OPTION = 26, F_GETFD_COMMAND = 1, F_GETFL_COMMAND = 3,
       F_SETFL_COMMAND = 4, FD_CLOEXEC_FLAG = 1, NONBLOCK = 04000, E_INTR = 4, E_NOENT = 2, E_AGAIN = 11, E_CONNREFUSED = 111,
       E_ADDRINUSE = 98, NO_SIGNAL = 0x4000 };
#if defined(__aarch64__)
enum { DIRECTORY = 040000, PATH_ONLY = 010000000 };
#else
enum { DIRECTORY = 0200000, PATH_ONLY = 010000000 };
#endif

struct address { unsigned short family; u8 rest[126]; };
struct vector { void *base; size_type length; };
struct message { void *name; u32 name_length; struct vector *parts; size_type part_count; void *control; size_type control_length; int flags; };
struct rights { size_type length; int level; int type; int descriptor; int padding; };
struct pause { long seconds; long nanoseconds; };

/* The descriptors this process got from the supervisor: to answer a second bind of one address, and to know our own in listen(). */
enum { KNOWN = 64 };
static struct { int used; int descriptor; u32 length; struct address address; } known[KNOWN];

static int fail(long negative_errno) {
    if (negative_errno >= 0) return (int)negative_errno;
    if (__errno_location) *__errno_location() = (int)-negative_errno;
    return -1;
}

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

/* Asks once. Returns a descriptor, or a negative errno for the program, or 1 << 20: "bind it yourself", or 1 << 21: "ask again". */
enum { OWN = 1 << 20, AGAIN = 1 << 21 };
static long ask(const char *path, const char *request, size_type request_length) {
    long supervisor = connect_supervisor(path);
    if (supervisor == -E_NOENT || supervisor == -E_CONNREFUSED || supervisor == -E_AGAIN || supervisor == -E_INTR) return AGAIN;
    if (supervisor < 0) return OWN;
    long outcome = AGAIN;
    if (call(SYS_SENDTO, supervisor, (long)request, (long)request_length, NO_SIGNAL, 0, 0) == (long)request_length) {
        char reply[64];
        struct rights rights = {0};
        struct vector part = { reply, sizeof reply - 1 };
        struct message message = { 0, 0, &part, 1, &rights, sizeof rights, 0 };
        long got;
        do got = call(SYS_RECVMSG, supervisor, (long)&message, 0x40000000 /* MSG_CMSG_CLOEXEC */, 0, 0, 0); while (got == -E_INTR);
        if (got > 0) {
            reply[got] = 0;
            if (same(reply, "take", 4) && message.control_length >= sizeof(size_type) + 3 * sizeof(int)) outcome = rights.descriptor;
            else if (same(reply, "fail ", 5)) {
                long number = 0;
                for (char *c = reply + 5; *c >= '0' && *c <= '9'; c++) number = number * 10 + (*c - '0');
                outcome = number ? -number : -E_ADDRINUSE;
            } else if (same(reply, "own", 3)) outcome = OWN;
        }
    }
    call(SYS_CLOSE, supervisor, 0, 0, 0, 0, 0);
    return outcome;
}

static int is_shareable(const struct address *address, u32 length, int type) {
    if (address->family == INET && length >= 8) return (type == STREAM || type == DGRAM) && (address->rest[0] || address->rest[1]);
    if (address->family == INET6 && length >= 24) return (type == STREAM || type == DGRAM) && (address->rest[0] || address->rest[1]);
    if (address->family == UNIX && length > 3) return type == STREAM && address->rest[0];
    return 0;
}

static int find_known(int descriptor) {
    for (int i = 0; i < KNOWN; i++) if (known[i].used && known[i].descriptor == descriptor) return i;
    return -1;
}

/* True when an earlier descriptor of this process still holds the address: then a second bind must fail as it always did. */
static int is_held(const struct address *address, u32 length) {
    for (int i = 0; i < KNOWN; i++) {
        if (!known[i].used || known[i].length != length || !same(&known[i].address, address, length)) continue;
        struct address now;
        u32 now_length = sizeof now;
        if (call(SYS_GETSOCKNAME, known[i].descriptor, (long)&now, (long)&now_length, 0, 0, 0) == 0 && now.family == address->family
            && same(now.rest, address->rest, 2)) return 1;
        known[i].used = 0;
    }
    return 0;
}

static void remember(int descriptor, const struct address *address, u32 length) {
    int i = find_known(descriptor);
    for (int j = 0; i < 0 && j < KNOWN; j++) if (!known[j].used) i = j;
    if (i < 0) return;
    known[i].used = 1;
    known[i].descriptor = descriptor;
    known[i].length = length;
    memcpy(&known[i].address, address, length);
}

EXPORT int bind(int descriptor, const struct address *address, u32 length) {
    const char *path = getenv ? getenv("PERCORE_SOCKET") : 0;
    const char *token = getenv ? getenv("PERCORE_TOKEN") : 0;
    int type = option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0);
    if (!path || !token || !address || length > sizeof *address || length_of(token) > 100 || !is_shareable(address, length, type))
        return fail(call(SYS_BIND, descriptor, (long)address, length, 0, 0, 0));
    if (is_held(address, length) && !option_of(descriptor, SOL_SOCKET_LEVEL, SO_REUSEPORT_OPTION, 0)) return fail(-E_ADDRINUSE);

    char request[512], *at = request;
    at = put_text(put_text(put_text(at, "bind "), token), " ");
    at = put_text(put_number(at, (unsigned long)call(SYS_GETPID, 0, 0, 0, 0, 0, 0)), " ");
    at = put_text(put_number(at, address->family), " ");
    at = put_text(put_number(at, (unsigned long)type), " ");
    at = put_text(put_number(at, address->family == INET6 ? (unsigned long)option_of(descriptor, IPV6_LEVEL, V6ONLY_OPTION, 0) : 0), " ");
    for (u32 i = 0; i < length; i++) {
        u8 byte = ((const u8 *)address)[i];
        *at++ = "0123456789abcdef"[byte >> 4];
        *at++ = "0123456789abcdef"[byte & 15];
    }
    *at++ = '\n';

    long outcome = AGAIN;
    /* Ten seconds: a supervisor that is being replaced is back long before. */
    for (int attempt = 0; outcome == AGAIN && attempt < 200; attempt++) {
        if (attempt) { struct pause pause = { 0, 50000000 }; call(SYS_NANOSLEEP, (long)&pause, 0, 0, 0, 0, 0); }
        outcome = ask(path, request, (size_type)(at - request));
    }
    if (outcome == AGAIN) say("percore: the supervisor does not answer, so this worker binds its port alone and does not share it\n");
    if (outcome == AGAIN || outcome == OWN) return fail(call(SYS_BIND, descriptor, (long)address, length, 0, 0, 0));
    if (outcome < 0) return fail(outcome);

    long flags = call(SYS_FCNTL, descriptor, F_GETFL_COMMAND, 0, 0, 0, 0);
    long close_on_exec = call(SYS_FCNTL, descriptor, F_GETFD_COMMAND, 0, 0, 0, 0) & FD_CLOEXEC_FLAG;
    long slot_flags = call(SYS_FCNTL, outcome, F_GETFL_COMMAND, 0, 0, 0, 0);
    call(SYS_FCNTL, outcome, F_SETFL_COMMAND, (slot_flags & ~(long)NONBLOCK) | (flags & NONBLOCK), 0, 0, 0);
    long result = call(SYS_DUP3, outcome, descriptor, close_on_exec ? CLOEXEC : 0, 0, 0, 0);
    call(SYS_CLOSE, outcome, 0, 0, 0, 0, 0);
    if (result < 0) return fail(result);
    remember(descriptor, address, length);
    return 0;
}

/* A port that the kernel chose (0 was asked for) is the worker's own: the supervisor hears of it, for there is nothing to share. */
static void tell_alone(int descriptor) {
    const char *path = getenv ? getenv("PERCORE_SOCKET") : 0;
    const char *token = getenv ? getenv("PERCORE_TOKEN") : 0;
    struct address now;
    u32 length = sizeof now;
    if (!path || !token || length_of(token) > 100 || option_of(descriptor, SOL_SOCKET_LEVEL, SO_TYPE_OPTION, 0) != STREAM) return;
    if (call(SYS_GETSOCKNAME, descriptor, (long)&now, (long)&length, 0, 0, 0) != 0 || (now.family != INET && now.family != INET6)) return;
    char request[200], *at = put_text(put_text(put_text(request, "alone "), token), " ");
    at = put_text(put_number(at, (unsigned long)call(SYS_GETPID, 0, 0, 0, 0, 0, 0)), "\n");
    ask(path, request, (size_type)(at - request));
}

EXPORT int listen(int descriptor, int backlog) {
    /* A short backlog of one program (http.server asks for 5) would drop clients that wait while it restarts. */
    int at = find_known(descriptor);
    if (at >= 0 && is_held(&known[at].address, known[at].length) && backlog < 4096) backlog = 4096;
    else if (at < 0) tell_alone(descriptor);
    return fail(call(SYS_LISTEN, descriptor, backlog, 0, 0, 0, 0));
}

EXPORT int shutdown(int descriptor, int how) {
    /* shutdown() of a shared listening socket would end it for every worker and reorder the kernel's group. */
    if (find_known(descriptor) >= 0 && option_of(descriptor, SOL_SOCKET_LEVEL, 30 /* SO_ACCEPTCONN */, 0)) return 0;
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
