'use strict';
// node server.js PROTOCOL PORT NAME: sofa-rpc-node serves the Echo service over Bolt (v1, v2, with and without CRC: as it
// is asked) or, with dubbo-remoting, over Dubbo. The first line on stdout says where it listens. What a protocol's library
// does by itself stays as it is: it answers heartbeats, and Dubbo's answers one-way calls although nobody asked.

const { RpcServer } = require('sofa-rpc-node').server;
const { SERVICES, VERSION, echoService } = require('./echo');

const [ protocol, port, name ] = process.argv.slice(2);
const quiet = { info() {}, debug() {}, warn() {}, error() {}, write() {} };

/** As Java shows what a provider throws: a result that is a Throwable. */
function failure(text) {
  return protocol === 'dubbo'
    ? { $class: 'java.lang.Exception', $: new Error(text) }
    : Object.assign(new Error(text), { name: 'ApplicationError' });
}

const options = { logger: quiet, port: Number(port), version: VERSION, maxIdleTime: 600000 };
if (protocol === 'dubbo') options.protocol = require('dubbo-remoting');
const server = new RpcServer(options);
server.on('error', () => {});
const service = echoService(name, failure);
for (const interfaceName of SERVICES) server.addService({ interfaceName }, service);
server.start().then(() => {
  console.log(JSON.stringify({ listening: server.publishPort, name, protocol }));
});

process.stdin.on('end', () => process.exit(0)).resume(); // nobody is left who wants it
