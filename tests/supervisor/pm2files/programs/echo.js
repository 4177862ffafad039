setInterval(() => process.stdin.on('data', (part) => process.stdout.write(part)), 1e6);
console.log('args', ...process.argv.slice(2));
