'use strict';
// node client.js FLAVOUR HOST PORT: calls the Echo service as its stdin says, a JSON object per line, and answers each with
// one line: {"id", "ok", "wrong", "values": {value: times}, "errors": {text: times}, "elapsed_ms"}.
//
//   {"id": 1, "method": "echo", "args": ["a"], "times": 100, "concurrency": 10, "timeout_ms": 10000}
//   "size": 1000   the one argument is a text of that many characters, different in each call, and must come back
//   "oneway": true no answer is waited for; "heartbeat": true sends heartbeats and waits for their answers
//   "service", "version", "properties": instead of the defaults
//
// Flavours: bolt, bolt2 (version 1), bolt2-crc (version 2, switch on) with sofa-rpc-node; dubbo with dubbo-remoting;
// dubbo2js with dubbo2.js.

const readline = require('readline');
const { INTERFACE, VERSION } = require('./echo');

const [ flavour, host, port ] = process.argv.slice(2);
const quiet = { info() {}, debug() {}, warn() {}, error() {}, write() {} };
const KEPT_VALUES = 20;
const PATIENCE_MS = 10000; // the machine may be busy

/** sofa-rpc-node: Bolt in its versions, or Dubbo. One connection per service, calls multiplexed. */
class SofaCaller {
  constructor() {
    const { RpcClient } = require('sofa-rpc-node').client;
    const Connection = require('sofa-rpc-node/lib/client/connection/rpc');
    // The caller's own breaker would hide what the other side answers to many failing calls.
    require('sofa-rpc-node/lib/client/dynamic_config').instance.circuitBreaker.forceClosed = true;
    const dubbo = flavour === 'dubbo';
    class Flavoured extends Connection {
      _connect() {
        super._connect();
        if (flavour === 'bolt2' || flavour === 'bolt2-crc') {
          this._encoder.protocolType = 'bolt2';
          this._encoder.boltVersion = flavour === 'bolt2-crc' ? 2 : 1;
          this._encoder.crcEnable = flavour === 'bolt2-crc';
        }
      }
    }
    const protocol = dubbo ? require('dubbo-remoting') : require('sofa-bolt-node');
    this.client = new RpcClient({
      logger: quiet,
      connectionClass: Flavoured,
      connectionOpts: { protocol, noDelay: true, connectTimeout: PATIENCE_MS },
    });
    this.client.on('error', () => {});
    this.consumers = new Map();
    this.waiting = new Map();
    this.lastId = 0x40000000; // beyond those that the library gives
  }

  async consumer(command) {
    const interfaceName = command.service || INTERFACE;
    const version = command.version || VERSION;
    const key = `${interfaceName}:${version}`;
    if (!this.consumers.has(key)) {
      const consumer = this.client.createConsumer({
        interfaceName, version, group: '', serverHost: `${host}:${port}`,
      });
      this.consumers.set(key, consumer);
    }
    const consumer = this.consumers.get(key);
    await consumer.ready();
    return consumer;
  }

  async connection(command) {
    const consumer = await this.consumer(command);
    const request = consumer.createRequest('who', [], { responseTimeout: PATIENCE_MS });
    const connection = await consumer.getConnection(request);
    if (!connection) throw new Error('no connection');
    if (!connection.listened) {
      connection.listened = true;
      connection._decoder.on('heartbeat_ack', ack => {
        const resolve = this.waiting.get(ack.packetId);
        this.waiting.delete(ack.packetId);
        if (resolve) resolve('heartbeat');
      });
    }
    return connection;
  }

  async call(command, args) {
    const consumer = await this.consumer(command);
    return consumer.invoke(command.method, args, {
      responseTimeout: command.timeout_ms || PATIENCE_MS,
      requestProps: command.properties,
    });
  }

  async oneway(command, args) {
    const consumer = await this.consumer(command);
    const connection = await this.connection(command);
    const id = ++this.lastId;
    const encoder = connection._encoder;
    if (flavour === 'dubbo') {
      const Request = require('dubbo-remoting/lib/protocol/request');
      const Invocation = require('dubbo-remoting/lib/protocol/invocation');
      const request = new Request(id);
      request.isTwoWay = false;
      request.data = new Invocation({
        methodName: command.method,
        args,
        attachments: { dubbo: '2.0.2', path: consumer.interfaceName, version: consumer.version },
      });
      encoder.write(request.encode(encoder.encodeOptions));
      return null;
    }
    const request = consumer.createRequest(command.method, args, { responseTimeout: command.timeout_ms || PATIENCE_MS });
    request.oneway = true;
    await new Promise((resolve, reject) => {
      encoder.writeRequest(id, request, error => { error ? reject(error) : resolve(); });
    });
    return null;
  }

  async heartbeat(command) {
    const connection = await this.connection(command);
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error('no answer to the heartbeat')), command.timeout_ms || PATIENCE_MS).unref();
      this.waiting.set(id, resolve);
      connection._encoder.writeHeartbeat(id, { timeout: PATIENCE_MS, clientUrl: 'peer' });
    });
  }
}

/** dubbo2.js, which only calls. Its time-out is one for all calls, in seconds. */
class Dubbo2Caller {
  constructor() {
    const { DirectlyDubbo, java } = require('dubbo2.js');
    const dubbo = DirectlyDubbo.from({
      dubboAddress: `${host}:${port}`,
      dubboVersion: '2.0.2',
      dubboInvokeTimeout: 10,
    });
    this.dubbo = dubbo;
    this.java = java;
    this.proxies = new Map();
  }

  async call(command, args) {
    const dubboInterface = command.service || INTERFACE;
    const version = command.version || VERSION;
    const key = `${dubboInterface}:${version}`;
    if (!this.proxies.has(key)) {
      const method = (...values) => values.map(value =>
        (typeof value === 'number' ? { $class: 'int', $: value } : this.java.String(value)));
      const methods = {};
      for (const name of [ 'echo', 'who', 'slow', 'big', 'nothing', 'fail', 'crash', 'note', 'noted', 'busy' ]) {
        methods[name] = method;
      }
      this.proxies.set(key, this.dubbo.proxyService({ dubboInterface, version, methods }));
    }
    const { res, err } = await this.proxies.get(key)[command.method](...args);
    if (err) throw err;
    return res;
  }
}

function textOf(index, size) {
  const mark = `${index}:`;
  return mark + 'y'.repeat(Math.max(0, size - mark.length));
}

function count(table, key) {
  if (key in table || Object.keys(table).length < KEPT_VALUES) table[key] = (table[key] || 0) + 1;
}

async function run(caller, command) {
  const times = command.times || 1;
  const report = { id: command.id, ok: 0, wrong: 0, values: {}, errors: {} };
  const start = Date.now();
  let next = 0;
  async function worker() {
    while (next < times) {
      const index = next++;
      const args = command.size === undefined ? command.args || [] : [ textOf(index, command.size) ];
      try {
        let value;
        if (command.heartbeat) value = await caller.heartbeat(command);
        else if (command.oneway) value = await caller.oneway(command, args);
        else value = await caller.call(command, args);
        if (command.size === undefined) {
          report.ok += 1;
          count(report.values, typeof value === 'string' && value.length > 200 ? `${value.length} characters` : String(value));
        } else if (value === args[0]) report.ok += 1;
        else report.wrong += 1;
      } catch (error) {
        count(report.errors, `${error.name}: ${error.message}`);
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(command.concurrency || 1, times) }, worker));
  report.elapsed_ms = Date.now() - start;
  return report;
}

const caller = flavour === 'dubbo2js' ? new Dubbo2Caller() : new SofaCaller();
const input = readline.createInterface({ input: process.stdin });
input.on('line', async line => {
  const report = await run(caller, JSON.parse(line));
  process.stdout.write(`${JSON.stringify(report)}\n`);
});
input.on('close', () => process.exit(0));
console.log(JSON.stringify({ ready: flavour }));
