'use strict';
// The service that every peer offers, whatever its protocol: org.mosnxds.peers.Echo, version 1.0, and the same under other
// names, for routes of their own.

const INTERFACE = 'org.mosnxds.peers.Echo';
const SERVICES = [ INTERFACE, 'org.mosnxds.peers.Hurried', 'org.mosnxds.peers.First' ];
const VERSION = '1.0';

/** The methods of an instance that calls itself `name`; `failure(text)` is how its protocol returns an exception. */
function echoService(name, failure) {
  let noted = 0;
  let sleeping = 0;
  return {
    async echo(text) { return text; },
    async who() { return name; },
    async slow(ms) {
      sleeping += 1;
      await new Promise(resolve => { setTimeout(resolve, ms); });
      sleeping -= 1;
      return name;
    },
    async busy() { return String(sleeping); },
    async big(size) { return 'x'.repeat(size); },
    async nothing() { return null; },
    async fail(text) { return failure(text); },
    async crash(text) { throw new Error(text); },
    async note() { noted += 1; return String(noted); },
    async noted() { return String(noted); }, // dubbo-remoting cannot encode a zero
  };
}

module.exports = { INTERFACE, SERVICES, VERSION, echoService };
