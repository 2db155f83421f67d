'use strict';
// The service that every peer offers, whatever its protocol: org.mosnxds.peers.Echo, version 1.0.

const INTERFACE = 'org.mosnxds.peers.Echo';
const VERSION = '1.0';

/** The methods of an instance that calls itself `name`; `failure(text)` is how its protocol returns an exception. */
function echoService(name, failure) {
  let noted = 0;
  return {
    async echo(text) { return text; },
    async who() { return name; },
    async slow(ms) { await new Promise(resolve => { setTimeout(resolve, ms); }); return name; },
    async big(size) { return 'x'.repeat(size); },
    async nothing() { return null; },
    async fail(text) { return failure(text); },
    async crash(text) { throw new Error(text); },
    async note() { noted += 1; return String(noted); },
    async noted() { return String(noted); }, // dubbo-remoting cannot encode a zero
  };
}

module.exports = { INTERFACE, VERSION, echoService };
