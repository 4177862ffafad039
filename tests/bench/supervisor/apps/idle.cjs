setInterval(() => {}, 2 ** 30);
