#!/usr/bin/env node
// Before anything is read: libuv's threads, of which there are four by default, serve the whole process, and four reads that never answer (a network
// disk that has died) would keep everyone else from reading and saving. An ES module would be too late, as it is itself read by them.
process.env.UV_THREADPOOL_SIZE ??= "64";
void import("./cli.js").then(({ main }) => main());
