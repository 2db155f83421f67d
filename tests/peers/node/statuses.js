'use strict';
// node statuses.js: a response for each status that Bolt and Dubbo know, as the Node libraries encode them; JSON lines.

Error.stackTraceLimit = 0;
const bolt = require('sofa-bolt-node/lib/protocol');
const statuses = require('sofa-bolt-node/lib/protocol/enum/response_status');
const Response = require('dubbo-remoting/lib/protocol/response');

for (const [ protocolType, boltVersion, crcEnable ] of [ [ 'bolt', 1, false ], [ 'bolt2', 2, true ] ]) {
  for (const [ name, status ] of Object.entries(statuses)) {
    if (typeof status !== 'number' || status === 0) continue;
    const frame = bolt.responseEncode(0x01020304, { status, isError: true, errorMsg: `because of ${name}`, appResponse: null }, {
      protocolType, boltVersion, crcEnable, codecType: 'hessian2',
    });
    console.log(JSON.stringify({ protocol: 'bolt', name: `${protocolType} status ${status} ${name}`, hex: frame.toString('hex') }));
  }
}
for (const [ name, status ] of Object.entries(Response)) {
  if (typeof status !== 'number' || status === 20) continue;
  const response = new Response(0x0102030405);
  response.status = status;
  response.errorMsg = `because of ${name}`;
  console.log(JSON.stringify({ protocol: 'dubbo', name: `status ${status} ${name}`, hex: response.encode().toString('hex') }));
}
