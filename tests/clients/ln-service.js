// What `ln-service` (and `lightning`, which does its work) offers, called on a daemon of ours with a peer.
//
// Speaks with the test that started it over lines: `{"call", "said"}` of each call (`said` is null if all is well),
// `{"mine": N}`, which the test answers with a line once the blocks are there.

const fs = require('fs');
const readline = require('readline');
const { randomBytes, createHash } = require('crypto');
const ln = require('ln-service');

const config = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const access = ({ grpc: socket, cert, macaroon }) =>
  ({ socket, cert: fs.readFileSync(cert).toString('base64'), macaroon: fs.readFileSync(macaroon).toString('hex') });
const { lnd } = ln.authenticatedLndGrpc(access(config.alice));
const bob = ln.authenticatedLndGrpc(access(config.bob)).lnd;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = message => process.stdout.write(`${JSON.stringify(message)}\n`);
const mine = async count => { tell({ mine: count }); await lines.next(); };
const text = error => (error instanceof Error ? error.stack.split('\n').slice(0, 3).join(' ') : JSON.stringify(error));
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const PATIENCE_MS = 120000;

const within = (promise, what) => Promise.race([
  promise,
  sleep(PATIENCE_MS).then(() => { throw new Error(`${what}: nothing within ${PATIENCE_MS} ms`); }),
]);

/** A call that has to work; its answer has to pass `check`, which gives what is wrong with it. */
const call = async (name, args, check) => {
  try {
    const answer = await within(ln[name]({ lnd, ...args }), name);
    const wrong = check ? await check(answer) : undefined;
    tell({ call: name, said: wrong ? `${wrong}: ${JSON.stringify(answer).slice(0, 300)}` : null });
    return answer;
  } catch (error) {
    tell({ call: name, said: text(error) });
    return {};
  }
};

/** A call that needs what this node does not serve: it has to be told so. */
const absent = async (name, args, word) => {
  try {
    await within(ln[name]({ lnd, ...args }), name);
    tell({ call: name, said: null });
  } catch (error) {
    const known = /unknown|[Uu]nsupported|NotSupported|DoesNotSupport|BuildTag|UNIMPLEMENTED/.test(text(error)) ||
      (word && text(error).includes(word));
    tell(known ? { call: name, said: null, absent: true } : { call: name, said: text(error) });
  }
};

/** A call that has to fail with this word in its error. */
const refused = async (name, args, word) => {
  try {
    const answer = await within(ln[name]({ lnd, ...args }), name);
    tell({ call: `${name} (refused)`, said: `not refused: ${JSON.stringify(answer)}` });
  } catch (error) {
    tell({ call: `${name} (refused)`, said: text(error).includes(word) ? null : text(error) });
  }
};

/** A subscription: `then` makes it say `event`, and what it says has to pass `check`. */
const subscription = async (name, args, event, then, check) => {
  let sub;
  try {
    sub = ln[name]({ lnd, ...args });
    const said = new Promise((done, fail) => {
      sub.on(event, message => { if (!check || check(message)) done(message); });
      sub.on('error', fail);
    });
    said.catch(() => {});
    await sleep(500);
    if (then) await then();
    await within(said, name);
    tell({ call: name, said: null });
  } catch (error) {
    tell({ call: name, said: text(error) });
  } finally {
    if (sub) sub.removeAllListeners();
  }
};

const until = async (what, look) => {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const found = await look().catch(() => undefined);
    if (found) return found;
    await sleep(200);
  }
  throw new Error(`${what} has not happened`);
};

const reads = async () => {
  await call('getWalletInfo', {}, info => info.alias === 'alice' && info.is_synced_to_chain ? undefined : 'another node');
  await call('getIdentity', {});
  await call('getHeight', {}, ({ current_block_height: height }) => height > 100 ? undefined : 'no height');
  await call('getWalletVersion', {}, ({ build_tags: tags }) => tags.includes('walletrpc') ? undefined : 'no tags');
  const open = ln.unauthenticatedLndGrpc(access(config.alice)).lnd;
  await call('getWalletStatus', { lnd: open }, ({ is_active: active }) => active ? undefined : 'not active');
  await subscription('subscribeToWalletStatus', { lnd: open }, 'ready');
  await call('getChainBalance', {}, ({ chain_balance: sum }) => sum > 0 ? undefined : 'no coins');
  await call('getPendingChainBalance', {});
  await call('getChannelBalance', {});
  await call('getChannels', {});
  await call('getClosedChannels', {});
  await call('getPendingChannels', {});
  await call('getPeers', {});
  await call('getInvoices', {});
  await call('getPayments', {});
  await call('getFailedPayments', {});
  await call('getPendingPayments', {});
  await call('getForwards', {});
  await call('getForwards', { after: new Date(Date.now() - 864e5).toISOString(), before: new Date().toISOString() });
  await call('getFeeRates', {});
  await call('getNetworkInfo', {});
  await call('getNetworkGraph', {});
  await call('getChainTransactions', {}, ({ transactions }) => transactions.length ? undefined : 'none');
  await call('getUtxos', {}, ({ utxos }) => utxos.length ? undefined : 'none');
  await call('getLockedUtxos', {});
  await call('getChainFeeRate', { confirmation_target: 6 }, ({ tokens_per_vbyte: rate }) => rate > 0 ? undefined : 'no rate');
  await call('getMinimumRelayFee', {});
  await call('getAccessIds', {});
  await call('getMethods', {});
  await call('getMasterPublicKeys', {}, ({ keys }) => keys.length ? undefined : 'none');
  await call('getBackups', {});
  const { id } = await call('getBlock', { height: 1 }, ({ block }) => block ? undefined : 'no block')
    .then(() => ln.getHeight({ lnd })).then(({ current_block_hash: id }) => ({ id }));
  await call('getBlockHeader', { id }, ({ header }) => header.length === 160 ? undefined : 'no header');
  const { transactions } = await ln.getChainTransactions({ lnd });
  await call('getChainTransaction', { id: transactions[0].id });
  await call('getTowerServerInfo', {});
  await call('getConnectedWatchtowers', {});
};

const coins = async () => {
  const { address } = await call('createChainAddress', { format: 'p2wpkh' });
  const { address: taproot } = await call('createChainAddress', { format: 'p2tr' },
    ({ address: made }) => made.startsWith('bcrt1p') ? undefined : 'another kind');
  await call('sendToChainAddress', { address: taproot, tokens: 70000, fee_tokens_per_vbyte: 2 });
  await call('getChainFeeEstimate', { send_to: [{ address, tokens: 50000 }] }, ({ fee }) => fee > 0 ? undefined : 'no fee');
  await subscription('subscribeToTransactions', {}, 'chain_transaction',
    () => call('sendToChainAddress', { address, tokens: 60000, fee_tokens_per_vbyte: 2, description: 'tea' }));
  await call('sendToChainAddresses', { send_to: [{ address, tokens: 61000 }], fee_tokens_per_vbyte: 2 });
  await mine(1);
  const lasts = await ln.getUtxos({ lnd });
  const spent = lasts.utxos.find(utxo => utxo.confirmation_count > 0 && utxo.tokens > 100000);
  await subscription('subscribeToChainSpend', { min_height: 1, output_script: spent.output_script,
    transaction_id: spent.transaction_id, transaction_vout: spent.transaction_vout }, 'confirmation',
  async () => {
    const { psbt } = await ln.fundPsbt({ lnd, outputs: [{ address, tokens: 62000 }], fee_tokens_per_vbyte: 2,
      inputs: [{ transaction_id: spent.transaction_id, transaction_vout: spent.transaction_vout }] });
    const { transaction } = await ln.signPsbt({ lnd, psbt });
    await ln.broadcastChainTransaction({ lnd, transaction });
    await mine(1);
  }, ({ height, vin }) => height > 0 && vin >= 0);
  await subscription('subscribeToChainAddress', { bech32_address: address, min_height: 1, min_confirmations: 1 },
    'confirmation', null, ({ block, transaction }) => block.length === 64 && transaction.length > 0);
  await subscription('subscribeToBlocks', {}, 'block', () => mine(3));
  const { utxos } = await ln.getUtxos({ lnd });
  const coin = { transaction_id: utxos[0].transaction_id, transaction_vout: utxos[0].transaction_vout };
  const lock = await call('lockUtxo', coin);
  await call('getLockedUtxos', {}, ({ utxos }) => utxos.length === 1 ? undefined : 'not locked');
  await call('unlockUtxo', { ...coin, id: lock.id });
  await call('updateChainTransaction', { id: coin.transaction_id, description: 'mine' });
  await refused('sendToChainAddress', { address, tokens: 9e14, fee_tokens_per_vbyte: 2 }, 'InsufficientBalance');
};

const channels = async () => {
  const { public_key: key } = await ln.getIdentity({ lnd: bob });
  const socket = config.bob.peer;
  await subscription('subscribeToPeers', {}, 'connected', () => call('addPeer', { public_key: key, socket }));
  await call('getPeers', {}, ({ peers }) => peers.length === 1 ? undefined : 'no peer');
  await call('removePeer', { public_key: key });
  await call('addPeer', { public_key: key, socket });
  await subscription('subscribeToChannels', {}, 'channel_opening', () =>
    call('openChannel', { partner_public_key: key, local_tokens: 2000000, give_tokens: 500000, chain_fee_tokens_per_vbyte: 2 }));
  await call('getPendingChannels', {}, ({ pending_channels: pending }) => pending.length === 1 ? undefined : 'none pending');
  await mine(6);
  const [channel] = await until('the channel to open', async () => {
    const { channels } = await ln.getChannels({ lnd, is_active: true });
    return channels.length ? channels : undefined;
  });
  await until('the channel to be known', () => ln.getChannel({ lnd, id: channel.id }));
  await call('getChannel', { id: channel.id });
  await until('the peer to be known', () => ln.getNode({ lnd, public_key: key }));
  await call('getNode', { public_key: key });
  await call('getNode', { public_key: (await ln.getIdentity({ lnd })).public_key, is_omitting_channels: false });
  await call('getChannelBalance', {}, ({ channel_balance: sum }) => sum > 1000000 ? undefined : 'not ours');
  await call('updateRoutingFees', { transaction_id: channel.transaction_id, transaction_vout: channel.transaction_vout,
    base_fee_mtokens: '1000', fee_rate: 250, cltv_delta: 80 }, ({ failures }) => failures.length ? 'failed' : undefined);
  await call('getFeeRates', {}, ({ channels }) => channels[0].fee_rate === 250 ? undefined : 'not set');
  await call('disableChannel', { transaction_id: channel.transaction_id, transaction_vout: channel.transaction_vout });
  await call('enableChannel', { transaction_id: channel.transaction_id, transaction_vout: channel.transaction_vout });
  const point = { transaction_id: channel.transaction_id, transaction_vout: channel.transaction_vout };
  const { backup } = await call('getBackup', point);
  await call('verifyBackup', { ...point, backup }, ({ is_valid: valid }) => valid ? undefined : 'not valid');
  const all = await call('getBackups', {});
  await call('verifyBackups', all, ({ is_valid: valid }) => valid ? undefined : 'not valid');
  await subscription('subscribeToBackups', {}, 'backup',
    () => ln.openChannel({ lnd, partner_public_key: key, local_tokens: 300000, is_private: true, chain_fee_tokens_per_vbyte: 2 }));
  await mine(6);
  return { channel, key };
};

const payments = async ({ channel, key }) => {
  const invoice = await ln.createInvoice({ lnd: bob, tokens: 1000, description: 'tea' });
  await call('decodePaymentRequest', { request: invoice.request }, ({ tokens }) => tokens === 1000 ? undefined : 'wrong');
  await call('isDestinationPayable', { destination: key, tokens: 100 }, ({ is_payable: can }) => can ? undefined : 'not');
  const { route } = await call('getRouteToDestination', { destination: key, tokens: 1000, outgoing_channel: channel.id },
    ({ route }) => route ? undefined : 'no route');
  await absent('getRouteConfidence', { from: key, hops: route.hops });
  await call('getRouteThroughHops', { mtokens: '1000000', public_keys: [key] }, ({ route }) => route ? undefined : 'no route');
  await call('probeForRoute', { destination: key, tokens: 1000 }, ({ route }) => route ? undefined : 'no route');
  await call('pay', { request: invoice.request }, ({ tokens, is_confirmed: paid }) => paid && tokens === 1000 ? undefined : 'not paid');
  await call('getPayment', { id: invoice.id }, ({ is_confirmed: paid }) => paid ? undefined : 'not paid');
  await subscription('subscribeToPastPayment', { id: invoice.id }, 'confirmed');
  const second = await ln.createInvoice({ lnd: bob, tokens: 2000 });
  await call('payViaPaymentRequest', { request: second.request, max_fee: 10, outgoing_channel: channel.id });
  const third = await ln.createInvoice({ lnd: bob, tokens: 500 });
  await subscription('subscribeToPayViaRequest', { request: third.request, max_fee: 5 }, 'confirmed');
  const parsed = ln.parsePaymentRequest({ request: (await ln.createInvoice({ lnd: bob, tokens: 700 })).request });
  await call('payViaPaymentDetails', { id: parsed.id, destination: key, tokens: 700, cltv_delta: parsed.cltv_delta,
    payment: parsed.payment, features: parsed.features, total_mtokens: parsed.mtokens });
  const routed = ln.parsePaymentRequest({ request: (await ln.createInvoice({ lnd: bob, tokens: 800 })).request });
  const { route: way } = await ln.getRouteToDestination({ lnd, destination: key, tokens: 800, cltv_delta: routed.cltv_delta,
    payment: routed.payment, total_mtokens: routed.mtokens });
  await call('payViaRoutes', { id: routed.id, routes: [way] }, ({ tokens }) => tokens === 800 ? undefined : 'not paid');
  const preimage = randomBytes(32);
  await call('payViaPaymentDetails', { destination: key, tokens: 300, id: sha256(preimage),
    messages: [{ type: '5482373484', value: preimage.toString('hex') }] });
  await call('getRoutingFeeEstimate', { request: (await ln.createInvoice({ lnd: bob, tokens: 900 })).request });
  await refused('getPayment', { id: sha256('nobody') }, 'SentPaymentNotFound');
  await refused('pay', { request: invoice.request }, 'invoice is already paid');
  await call('getPayments', {}, ({ payments }) => payments.length >= 5 ? undefined : 'too few');
  const failing = await ln.createHodlInvoice({ lnd: bob, tokens: 5, id: sha256('held and cancelled') });
  const held = ln.payViaPaymentRequest({ lnd, request: failing.request }).catch(error => error);
  await until('the payment to be held', async () => (await ln.getInvoice({ lnd: bob, id: failing.id })).is_held);
  await ln.cancelHodlInvoice({ lnd: bob, id: failing.id });
  tell({ call: 'payViaPaymentRequest (cancelled)', said: text(await within(held, 'the end')).includes('PaymentRejectedByDestination') ? null : text(await held) });
  await call('getFailedPayments', {}, ({ payments }) => payments.length ? undefined : 'none');
  await call('deleteFailedPayAttempts', {});
  await call('deleteFailedPayments', {});
  await call('deletePayment', { id: invoice.id });
  await call('deletePayments', {}, async () => (await ln.getPayments({ lnd })).payments.length ? 'some are left' : undefined);
  await call('deleteForwardingReputations', {});
};

const invoices = async ({ key }) => {
  const { public_key: own } = await ln.getIdentity({ lnd });
  const invoice = await call('createInvoice', { tokens: 1500, description: 'cake', is_including_private_channels: true });
  await subscription('subscribeToInvoices', {}, 'invoice_updated',
    () => ln.pay({ lnd: bob, request: invoice.request }), ({ is_confirmed: paid }) => paid);
  await call('getInvoice', { id: invoice.id }, ({ is_confirmed: paid, received }) => paid && received === 1500 ? undefined : 'not paid');
  const secret = randomBytes(32);
  const held = await call('createHodlInvoice', { tokens: 2500, id: sha256(secret) });
  const paying = ln.pay({ lnd: bob, request: held.request });
  await subscription('subscribeToInvoice', { id: held.id }, 'invoice_updated', null, ({ is_held: holds }) => holds);
  await call('settleHodlInvoice', { secret: secret.toString('hex') });
  tell({ call: 'pay (held, then taken)', said: (await within(paying, 'the end')).is_confirmed ? null : 'not paid' });
  const cancelled = await ln.createHodlInvoice({ lnd, tokens: 5, id: sha256(randomBytes(32)) });
  await call('cancelHodlInvoice', { id: cancelled.id });
  await call('getInvoices', { limit: 2 }, ({ next }) => next ? undefined : 'one page only');
  await refused('getInvoice', { id: sha256('nobody') }, 'unable to locate invoice');
};

const tokens = async () => {
  const { macaroon } = await call('grantAccess', { permissions: ['info:read'], id: '7' });
  await call('getAccessIds', {}, ({ ids }) => ids.includes('7') ? undefined : 'no id');
  const narrow = ln.authenticatedLndGrpc({ ...access(config.alice), macaroon: Buffer.from(macaroon, 'base64').toString('hex') });
  await call('getWalletInfo', { lnd: narrow.lnd });
  await refused('getChannels', { lnd: narrow.lnd }, 'permission denied');
  await call('revokeAccess', { id: '7' });
  await refused('getWalletInfo', { lnd: narrow.lnd }, '503');
};

const messages = async () => {
  const { signature } = await call('signMessage', { message: 'hello' });
  const { public_key: own } = await ln.getIdentity({ lnd });
  await call('verifyMessage', { message: 'hello', signature }, ({ signed_by: by }) => by === own ? undefined : 'another signer');
};

const others = async ({ channel, key }) => {
  await call('verifyAccess', { permissions: ['info:read'], macaroon: Buffer.from(access(config.alice).macaroon, 'hex').toString('base64') },
    ({ is_valid: valid }) => valid ? undefined : 'not valid');
  await call('getConfiguration', {}, ({ options }) => options.some(({ type }) => type === 'alias') ? undefined : 'no alias');
  await call('getEphemeralChannelIds', {}, ({ channels }) => channels.length ? undefined : 'no names');
  await call('getForwardingConfidence', { from: key, mtokens: '1000', to: key },
    ({ confidence }) => confidence === 0 ? undefined : 'a node is no neighbour of its own');
  await call('getForwardingReputations', {}, ({ nodes }) => nodes ? undefined : 'no nodes');
  await call('getPathfindingSettings', {},
    ({ penalty_half_life_ms: ms }) => ms === 6 * 3600 * 1000 ? undefined : 'another half-life');
  await subscription('subscribeToPeerMessages', { lnd: bob }, 'message_received',
    () => call('sendMessageToPeer', { public_key: key, message: '0badcafe', type: 32769 }),
    ({ message, type }) => message === '0badcafe' && type === 32769);
  await refused('sendMessageToPeer', { public_key: key, message: '00', type: 513 }, 'not in custom range');
  await call('updateAlias', { alias: 'carol' });
  await call('updateColor', { color: '#c42a81' });
  await call('addExternalSocket', { socket: '192.0.2.7:9735' });
  await call('removeExternalSocket', { socket: '192.0.2.7:9735' });
  await call('getWalletInfo', {}, ({ alias, color }) => alias === 'carol' && color === '#c42a81' ? undefined : 'as before');
  await call('getPendingSweeps', {});
  await call('getSweepTransactions', {});
  await absent('getSettlementStatus', { channel: channel.id, payment: 0 }, 'HtlcResolution');
  await signatures({ key });
  await psbts();
};

const signatures = async ({ key }) => {
  const preimage = '74656121';
  const { public_key: own } = await call('getPublicKey', { family: 99, index: 7 });
  await call('getPublicKey', { family: 99 }, ({ index }) => Number.isInteger(index) ? undefined : 'no index');
  const { signature } = await call('signBytes', { key_family: 99, key_index: 7, preimage });
  await call('verifyBytesSignature', { preimage, public_key: own, signature }, ({ is_valid: valid }) => valid ? undefined : 'not valid');
  const schnorr = await call('signBytes', { key_family: 99, key_index: 7, preimage, type: 'schnorr' });
  await call('verifyBytesSignature', { preimage, public_key: own.slice(2), signature: schnorr.signature },
    ({ is_valid: valid }) => valid ? undefined : 'not valid');
  await call('diffieHellmanComputeSecret', { partner_public_key: key }, ({ secret }) => secret.length === 64 ? undefined : 'no secret');
  const { address } = await ln.createChainAddress({ lnd, format: 'p2tr' });
  const said = await call('signChainAddressMessage', { address, message: 'mine' });
  await call('verifyChainAddressMessage', { address, message: 'mine', signature: said.signature },
    ({ signed_by: by }) => by && by.length === 66 ? undefined : 'nobody');

  // Two keys of this node sign as one.
  const keys = await Promise.all([7, 8].map(index => ln.getPublicKey({ lnd, family: 99, index })));
  const begin = at => ({ key_family: 99, key_index: 7 + at, public_keys: [keys[1 - at].public_key], is_key_spend: true });
  const [one, two] = [await call('beginGroupSigningSession', begin(0)), await ln.beginGroupSigningSession({ lnd, ...begin(1) })];
  const hash = '05'.repeat(32);
  const parts = [
    await call('updateGroupSigningSession', { hash, id: one.id, nonces: [two.nonce] }),
    await ln.updateGroupSigningSession({ lnd, hash, id: two.id, nonces: [one.nonce] }),
  ];
  await call('endGroupSigningSession', { id: one.id, signatures: [parts[1].signature] },
    ({ signature: whole }) => whole && whole.length === 128 ? undefined : 'no signature');
  await call('endGroupSigningSession', { id: two.id });
};

const psbts = async () => {
  const { address } = await ln.createChainAddress({ lnd });
  const outputs = [{ address, tokens: 50000 }];
  const { psbt, inputs } = await call('fundPsbt', { outputs, fee_tokens_per_vbyte: 2 });
  await call('partiallySignPsbt', { psbt });
  const { transaction } = await call('signPsbt', { psbt }, signed => signed.transaction ? undefined : 'no transaction');
  await call('broadcastChainTransaction', { transaction });
  const left = await call('fundPsbt', { outputs, change_type: 'p2tr', fee_tokens_per_vbyte: 2 });
  for (const input of left.inputs.filter(spent => spent.lock_id)) {
    await call('unlockUtxo', { id: input.lock_id, transaction_id: input.transaction_id, transaction_vout: input.transaction_vout });
  }
  await call('getChainAddresses', {}, ({ addresses }) => addresses.some(one => one.address === address) ? undefined : 'not told');
  await call('sendToChainOutputScripts', { fee_tokens_per_vbyte: 2, send_to: [{ script: '0014' + '03'.repeat(20), tokens: 20000 }] });
  if (!inputs.length) tell({ call: 'fundPsbt (inputs)', said: 'none' });
};

const ends = async ({ channel }) => {
  const point = { transaction_id: channel.transaction_id, transaction_vout: channel.transaction_vout };
  await subscription('subscribeToChannels', {}, 'channel_closed', async () => {
    await call('closeChannel', { ...point, tokens_per_vbyte: 2 });
    await mine(6);
  });
  await until('the channel to be closed', async () => (await ln.getClosedChannels({ lnd })).channels.length);
  await call('getClosedChannels', { is_cooperative_close: true }, ({ channels }) => channels.length === 1 ? undefined : 'not one');
  const [other] = (await ln.getChannels({ lnd })).channels;
  await call('closeChannel', { transaction_id: other.transaction_id, transaction_vout: other.transaction_vout, is_force_close: true });
  await mine(1);
  await call('getPendingChannels', {}, ({ pending_channels: pending }) => pending.some(one => one.is_closing) ? undefined : 'not closing');
};

(async () => {
  await reads();
  await coins();
  await messages();
  await tokens();
  const opened = await channels();
  await payments(opened);
  await invoices(opened);
  await others(opened);
  await ends(opened);
  tell({ call: 'all steps', said: null });
  process.exit(0);
})().catch(error => { tell({ call: 'the next step', said: text(error) }); process.exit(1); });
