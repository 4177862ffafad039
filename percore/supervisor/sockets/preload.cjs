'use strict';
// Loaded into every Node process of a clustered app (NODE_OPTIONS --require). It changes nothing until the supervisor asks
// this process to drain: then each further response says "Connection: close", and once no connection is left the
// supervisor hears "drained". An app without any signal handler thus loses no request in a reload.
//
// Where the debugger is asked for (SIGUSR1), it opens a port that the kernel chooses: each worker has its own, which is not shared.
//
// On a full disk it drops what the program says, and counts it, where Node would end the program.
//
// Words on the worker socket (percore/supervisor/sockets/broker.py is the other side):
//   drain-me TOKEN PID\n  ->  ... later "drain\n", or "close\n" to stop accepting as well;  drained\n  ->
const { isMainThread } = require('worker_threads');
const path = process.env.PERCORE_SOCKET;
const token = process.env.PERCORE_TOKEN;

if (isMainThread && path && token) {
  const net = require('net');
  const fs = require('fs');
  const servers = new Set();
  let isDraining = false;

  const isInspected = /--(inspect|debug)/.test(`${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS || ''}`);
  if (!isInspected && process.debugPort === 9229) process.debugPort = 0;

  const closeAfterResponse = (_request, response) => {
    response.shouldKeepAlive = false;
  };
  const beginDrain = (server) => {
    // http and https servers announce requests; for others there is nothing to tell the client.
    if (typeof server.keepAliveTimeout === 'number') server.prependListener('request', closeAfterResponse);
  };

  const listen = net.Server.prototype.listen;
  net.Server.prototype.listen = function (...args) {
    if (!servers.has(this)) {
      servers.add(this);
      this.once('close', () => servers.delete(this));
      if (isDraining) beginDrain(this);
    }
    return listen.apply(this, args);
  };

  const openConnections = () => {
    let count = 0;
    for (const server of servers) count += server._connections || 0;
    return count;
  };

  // Node writes to a file at once, and takes an error for a reason to end the program.
  const outliveFullDisk = (stream, fd) => {
    if (!stream || stream.constructor.name !== 'SyncWriteStream') return;
    const write = stream._write;
    let lost = 0;
    stream._write = function (chunk, encoding, done) {
      const finish = (error) => {
        const isFull = error && ['ENOSPC', 'EDQUOT'].includes(error.code);
        if (isFull) lost += chunk.length;
        done(isFull ? null : error);
      };
      try {
        if (lost) fs.writeSync(fd, `percore: the disk was full, ${lost} bytes of this log were lost\n`);
        lost = 0;
        write.call(this, chunk, encoding, finish);
      } catch (error) {
        finish(error);
      }
    };
  };
  for (const [name, fd] of Object.entries({ stdout: 1, stderr: 2 })) {
    const property = Object.getOwnPropertyDescriptor(process, name);
    let isWatched = false;
    Object.defineProperty(process, name, {
      ...property,
      get() {
        const stream = property.get.call(process); // made by Node when it is first asked for
        if (!isWatched) outliveFullDisk(stream, fd);
        isWatched = true;
        return stream;
      },
    });
  }

  const connect = () => {
    let target = path;
    let folder = -1;
    if (Buffer.byteLength(path) > 100) {
      try {
        folder = fs.openSync(require('path').dirname(path), 'r');
      } catch {
        return;
      }
      target = `/proc/self/fd/${folder}/${require('path').basename(path)}`;
    }
    let supervisor;
    try {
      supervisor = net.connect(target);
    } catch {
      return; // a program that may not (Node's and Deno's permissions) runs without a drain
    }
    supervisor.unref();
    supervisor.on('connect', () => {
      if (folder >= 0) fs.closeSync(folder);
      folder = -1;
      supervisor.write(`drain-me ${token} ${process.pid}\n`);
    });
    supervisor.on('data', (text) => {
      const word = String(text).trim();
      if (!['drain', 'close'].includes(word)) return;
      if (!isDraining) servers.forEach(beginDrain);
      isDraining = true; // also for a second supervisor that asks, because the first one died meanwhile
      // Not the server's own close(), which would end idle connections under their clients' next request.
      if (word === 'close') {
        supervisor.ref(); // without a server the process would end before it is told to
        servers.forEach((server) => net.Server.prototype.close.call(server));
      }
      const timer = setInterval(() => {
        if (openConnections() > 0) return;
        clearInterval(timer);
        supervisor.write('drained\n');
      }, 20);
      timer.unref();
    });
    // The supervisor may be replaced; its successor must be able to ask as well.
    supervisor.on('error', () => {});
    supervisor.on('close', () => {
      if (folder >= 0) fs.closeSync(folder);
      folder = -1;
      setTimeout(connect, 200).unref();
    });
  };
  connect();
}
