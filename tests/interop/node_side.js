// celery-node's half of the interop tests: a worker, or a client driven by JSON lines.
"use strict";
const celery = require(process.env.INTEROP_NODE + "/node_modules/celery-node");
const { INTEROP_BROKER: broker, INTEROP_BACKEND: backend, INTEROP_QUEUE: queue } = process.env;

function work() {
  const worker = celery.createWorker(broker, backend, queue);
  worker.register("side.add", (x, y) => x + y);
  worker.register("side.echo", (...args) => [args.slice(0, -1), args[args.length - 1]]);
  worker.register("side.fail", (text) => {
    throw new Error(text);
  });
  worker.start();
  worker.isReady().then(() => console.log("ready"));
}

function serve() {
  const client = celery.createClient(broker, backend, queue);
  const lines = require("readline").createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const { task, args, kwargs, protocol } = JSON.parse(line);
    client.conf.TASK_PROTOCOL = protocol || 2;
    const result = client.createTask("side." + task).applyAsync(args || [], kwargs || {});
    result
      .get(20000, 20)
      .then((value) => ({ ok: value }))
      .catch((error) => ({ error: error.message, args: [JSON.stringify(error)] }))
      .then((answer) => console.log(JSON.stringify(answer)));
  });
  lines.on("close", () => process.exit(0));
}

if (process.argv[2] === "worker") work();
else serve();
