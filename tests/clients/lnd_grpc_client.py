"""What `lnd-grpc-client` (`lndgrpc`) offers, called on a daemon of ours with a peer.

Speaks with the test that started it over lines, as `ln-service.js` does.
"""

import hashlib
import json
import os
import sys
import threading
import time

from lndgrpc import LNDClient
from lndgrpc.compiled import lightning_pb2 as ln

config = json.load(open(sys.argv[1]))


def client(node):
    return LNDClient(node["grpc"], macaroon_filepath=node["macaroon"], cert_filepath=node["cert"])


alice, bob = client(config["alice"]), client(config["bob"])
PATIENCE_S = 120


# The library prints remarks of its own.
lines, sys.stdout = sys.stdout, sys.stderr


def tell(**message):
    print(json.dumps(message), file=lines, flush=True)


def mine(blocks):
    tell(mine=blocks)
    sys.stdin.readline()


def call(name, *args, of=None, check=None, absent=False, **kwargs):
    """A call that has to work, with an answer that `check` holds for."""
    try:
        answer = getattr(of or alice, name)(*args, **kwargs)
        # It swallows some errors, and prints them.
        if answer is None or (check and not check(answer)):
            tell(call=name, said=f"a wrong answer: {answer!s:.300}")
        else:
            tell(call=name, said=None)
        return answer
    except Exception as error:  # whatever the library makes of it
        if absent and "UNIMPLEMENTED" in repr(error) + str(error):
            tell(call=name, said=None, absent=True)
        else:
            tell(call=name, said=f"{error!r:.500}")


def until(what, look):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            found = look()
            if found:
                return found
        except Exception:
            pass
        time.sleep(0.2)
    raise TimeoutError(what)


def first_of(stream, then):
    """The first message of a stream; `then` makes it come."""
    said = []
    reader = threading.Thread(target=lambda: said.append(next(iter(stream))), daemon=True)
    reader.start()
    time.sleep(0.5)
    then()
    reader.join(PATIENCE_S)
    return said[0]


info = call("get_info", check=lambda info: info.alias == "alice" and info.synced_to_chain)
call("get_version", check=lambda version: version.app_minor > 0)
call("get_state")
call("wallet_balance", check=lambda balance: balance.total_balance > 0)
call("wallet_balance", of=bob, check=lambda balance: "default" in balance.account_balance)
call("channel_balance")
call("list_peers")
call("list_permissions", check=lambda answer: len(answer.method_permissions) > 50)
call("list_macaroon_ids")
call("bake_macaroon", [ln.MacaroonPermission(entity="info", action="read")], 3, check=lambda answer: answer.macaroon)
call("get_transactions", 0, -1, check=lambda answer: len(answer.transactions) > 0)
call("list_transactions")
call("list_unspent", check=lambda answer: len(answer.utxos) > 0)
call("estimate_fee", 6, check=lambda answer: answer.sat_per_kw > 0)
call("list_accounts", check=lambda answer: len(answer.accounts) > 0)
call("list_leases")
call("required_reserve", 1)
call("next_addr")
call("get_recovery_info")
call("export_all_channel_backups")
call("closed_channels")
call("pending_channels")
call("list_channels")
call("list_invoices")
call("list_payments")
call("forwarding_history")
call("fee_report")
call("describe_graph")
call("get_network_info")
call("list_sweeps", absent=True)
call("pending_sweeps", absent=True)
call("debug_level", False, "warn", check=lambda answer: answer.sub_systems == "warn")
signed = call("sign_message", b"hello")
call("verify_message", b"hello", signed.signature, check=lambda answer: answer.valid and answer.pubkey == info.identity_pubkey)

address = call("new_address").address
sent = call("send_coins", address, 70_000, sat_per_vbyte=2)
mine(1)

key = bob.get_info().identity_pubkey
host = config["bob"]["peer"]
call("connect_peer", key, host)
call("disconnect_peer", key)
call("connect_peer", key, host)
opened = call("open_channel", key, 2_000_000, 2, push_sat=500_000)
mine(6)
[channel] = until("the channel", lambda: alice.list_channels(active_only=True).channels)
until("the graph", lambda: alice.get_chan_info(channel.chan_id))
call("get_chan_info", channel.chan_id)
until("the peer", lambda: alice.get_node_info(key).num_channels)
call("get_node_info", key, include_channels=True, check=lambda answer: answer.num_channels == 1)
call("query_routes", key, 1_000, check=lambda answer: len(answer.routes) == 1)
txid, index = channel.channel_point.split(":")
call("export_channel_backup", ln.ChannelPoint(funding_txid_str=txid, output_index=int(index)), check=lambda answer: answer.chan_backup)
call("update_channel_policy", base_fee_msat=1_000, fee_rate=0.0005, time_lock_delta=80, all_channels=True,
     check=lambda answer: not answer.failed_updates)

invoice = call("add_invoice", 1_500, "tea", of=bob)
call("decode_pay_req", invoice.payment_request, check=lambda answer: answer.num_satoshis == 1_500)
paid = call("send_payment_v2", payment_request=invoice.payment_request, fee_limit_msat=10_000, timeout_seconds=60,
            check=lambda updates: updates[-1].status == ln.Payment.SUCCEEDED)
call("lookup_invoice", invoice.r_hash.hex(), of=bob, check=lambda answer: answer.state == ln.Invoice.SETTLED)
call("list_payments", check=lambda answer: len(answer.payments) == 1)
call("reset_mission_control")
call("build_route", 1_000_000, channel.chan_id, [key])
own = call("add_invoice", 900, "cake")
seen = first_of(alice.subscribe_invoices(), lambda: bob.send_payment_v2(
    payment_request=own.payment_request, fee_limit_msat=10_000, timeout_seconds=60))
tell(call="subscribe_invoices", said=None if seen.add_index == own.add_index else f"{seen}")
cancelled = alice.add_invoice(5, "never")
call("cancel_invoice", cancelled.r_hash)

closing = call("close_channel", channel.channel_point, sat_per_vbyte=2)
next(iter(closing))
mine(6)
until("the close", lambda: alice.closed_channels().channels)
tell(call="all steps", said=None)
os._exit(0)
