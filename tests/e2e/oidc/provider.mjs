// A real OpenID provider (oidc-provider) for the end-to-end tests: discovery, key set and the client_credentials grant
// over https, and a port beside it where a test turns keys over and reads counts.
//
//   node provider.mjs DIR PORT CONTROL     DIR holds server.pem and server.key; runs until it is killed
//
// Tokens: POST /token with resource=urn:AUDIENCE:ALG, which chooses both (RS256, ES256, EdDSA); `sub` is the client's id.
//
// CONTROL, plain http, loopback:
//   /ready                  200
//   /rotate?keep=0|1        new keys of all algorithms sign from now on; the old ones are withdrawn, or stay published
//   /counts                 {"discovery": …, "jwks": …}: requests so far

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { join } from 'node:path';
import Provider from 'oidc-provider';

const [dir, port, control] = process.argv.slice(2);
const issuer = `https://localhost:${port}`;

const KINDS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

let generation = 0;
function newKeys() {
  generation += 1;
  return Object.entries(KINDS).map(([alg, make]) => ({
    ...make().privateKey.export({ format: 'jwk' }),
    kid: `${alg}-${generation}-of-${process.pid}`,
    alg,
    use: 'sig',
  }));
}

// A provider signs with the first key that fits.
function provider(keys) {
  return new Provider(issuer, {
    jwks: { keys },
    clients: ['app-1', 'app-2'].map((client_id) => ({
      client_id,
      client_secret: `${client_id}-secret`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    cookies: { keys: ['unused'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: '',
          audience: resource.split(':')[1],
          accessTokenTTL: 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: resource.split(':')[2] } },
        }),
      },
    },
  }).callback();
}

let keys = newKeys();
let serve = provider(keys);
const counts = { discovery: 0, jwks: 0 };
const tls = { cert: readFileSync(join(dir, 'server.pem')), key: readFileSync(join(dir, 'server.key')) };
createHttps(tls, (request, answer) => {
  if (request.url.startsWith('/.well-known/')) counts.discovery += 1;
  if (request.url.startsWith('/jwks')) counts.jwks += 1;
  serve(request, answer);
}).listen(port, '127.0.0.1', () => {
  createHttp((request, answer) => {
    const { pathname, searchParams } = new URL(request.url, issuer);
    if (pathname === '/rotate') {
      const fresh = newKeys();
      keys = searchParams.get('keep') === '1' ? [...fresh, ...keys] : fresh;
      serve = provider(keys);
    }
    answer.end(JSON.stringify(counts));
  }).listen(control, '127.0.0.1');
});
