// Lives, listens nowhere and is never ready.
setInterval(() => {}, 1000);
