// Load that is counted request by request. Every request has a time limit, and none is retried: `lost` was refused, reset or
// cut, `hung` got no answer in time, `bad` got another answer than 200.
//
// node load.cjs '{"port": 5000, "keeping": 4, "closing": 4, "pauseMs": 2, "timeoutMs": 5000}'   until SIGTERM
// node load.cjs '{"port": 5000, "rate": 250, "seconds": 20, "timeoutMs": 5000}'   Poisson arrivals, a connection each
//
// Speaks HTTP over plain sockets: a client library would hide a connection that was closed under it.
const net = require('net');

const options = JSON.parse(process.argv[2]);
const counts = { ok: 0, lost: 0, hung: 0, bad: 0 };
const reasons = {};
const milliseconds = [];
let stopping = false;
let open = 0;

function request(socket, keeps, done) {
  const start = process.hrtime.bigint();
  let reply = '';
  const timer = setTimeout(() => finish('hung', 'no answer in time'), options.timeoutMs);
  function finish(kind, reason) {
    clearTimeout(timer);
    socket.removeAllListeners('data');
    socket.removeAllListeners('error');
    socket.removeAllListeners('close');
    socket.on('error', () => {});
    counts[kind] += 1;
    if (kind === 'ok') milliseconds.push(Number(process.hrtime.bigint() - start) / 1e6);
    else reasons[reason] = (reasons[reason] || 0) + 1;
    const closes = kind !== 'ok' || !keeps || /^connection: close/im.test(reply);
    if (closes) socket.destroy();
    done(closes);
  }
  socket.on('error', (error) => finish('lost', error.code));
  socket.on('close', () => finish('lost', 'closed without an answer'));
  socket.on('data', (part) => {
    reply += part;
    const end = reply.indexOf('\r\n\r\n');
    if (end < 0) return;
    const length = /^content-length: (\d+)/im.exec(reply);
    if (length && reply.length < end + 4 + Number(length[1])) return;
    if (!length && !reply.endsWith('0\r\n\r\n')) return;
    finish(reply.startsWith('HTTP/1.1 200') ? 'ok' : 'bad', reply.slice(0, 12));
  });
  socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\n${keeps ? '' : 'Connection: close\r\n'}\r\n`);
}

function client(keeps) {
  let socket = null;
  const next = () => {
    if (stopping) {
      open -= 1;
      socket?.destroy();
      finishWhenIdle();
      return;
    }
    // A server may close an idle connection; the next request then needs a new one, as in any client.
    if (!socket || socket.destroyed || socket.readableEnded) socket = net.connect(options.port, '127.0.0.1');
    request(socket, keeps, (closes) => {
      if (closes) socket = null;
      setTimeout(next, options.pauseMs);
    });
  };
  open += 1;
  next();
}

// The same arrivals in every run: a small generator with a fixed seed (mulberry32).
function makeRandom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function arrivals() {
  const random = makeRandom(7);
  const start = performance.now();
  let due = 0;
  open = 1; // the generator itself
  const tick = () => {
    const now = performance.now() - start;
    while (due <= now && due < options.seconds * 1000) {
      due += (-Math.log(1 - random()) * 1000) / options.rate;
      open += 1;
      request(net.connect(options.port, '127.0.0.1'), false, () => {
        open -= 1;
        finishWhenIdle();
      });
    }
    if (due < options.seconds * 1000) setTimeout(tick, 1);
    else {
      open -= 1;
      stopping = true;
      finishWhenIdle();
    }
  };
  tick();
}

function finishWhenIdle() {
  if (!stopping || open > 0) return;
  milliseconds.sort((a, b) => a - b);
  const at = (share) => milliseconds[Math.min(milliseconds.length - 1, Math.floor(milliseconds.length * share))] ?? 0;
  process.stdout.write(JSON.stringify({ ...counts, p50: at(0.5), p99: at(0.99), reasons }));
  process.exit(0);
}

process.on('SIGTERM', () => {
  stopping = true;
  finishWhenIdle();
});
if (options.rate) arrivals();
else {
  for (let i = 0; i < options.keeping; i++) client(true);
  for (let i = 0; i < options.closing; i++) client(false);
}
process.stderr.write('started\n');
