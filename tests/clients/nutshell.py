"""The REST client of nutshell (`cashu`), a mint's backend, on a daemon of ours with a peer.

Speaks with the test that started it over lines, as `ln-service.js` does.
"""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import types

config = json.load(open(sys.argv[1]))
for name, value in {
    "MINT_LND_REST_ENDPOINT": config["alice"]["rest"],
    "MINT_LND_REST_CERT": config["alice"]["cert"],
    "MINT_LND_REST_MACAROON": config["alice"]["macaroon"],
    "MINT_LND_ENABLE_MPP": "TRUE",
    "CASHU_DIR": os.path.join(os.path.dirname(sys.argv[1]), "cashu"),
}.items():
    os.environ[name] = value

# The package of all its backends would load the libraries of each.
lightning = types.ModuleType("cashu.lightning")
lightning.__path__ = [os.path.join(os.path.dirname(importlib.util.find_spec("cashu").origin), "lightning")]
sys.modules["cashu.lightning"] = lightning

from loguru import logger

logger.remove()

from cashu.core.base import Amount, MeltQuote, MeltQuoteState, Unit
from cashu.core.models import PostMeltQuoteRequest
from cashu.lightning.base import PaymentResult, PaymentStatusResult
from cashu.lightning.lndrest import LndRestWallet


def tell(**message):
    print(json.dumps(message), flush=True)


def mine(blocks):
    tell(mine=blocks)
    sys.stdin.readline()


def leyden(node, *words):
    """The command line of ours, for what a mint's backend has no call for."""
    run = subprocess.run(["leyden", "--json", "--data-dir", os.environ[node], *words], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


async def call(name, answer, check):
    try:
        found = await answer
        tell(call=name, said=None if check(found) else f"a wrong answer: {found!s:.300}")
        return found
    except Exception as error:  # whatever the library makes of it
        tell(call=name, said=f"{error!r:.500}")


def quote(request, amount):
    return MeltQuote(quote="q", method="bolt11", request=request, checking_id="c", unit="sat", amount=amount, fee_reserve=10,
                     state=MeltQuoteState.unpaid)


async def main():
    wallet = LndRestWallet(Unit.sat)
    await call("status", wallet.status(), lambda status: status.error_message is None)
    bob = leyden("BOB", "getinfo")["uris"][0]
    leyden("ALICE", "openchannel", bob, "2000000", "500000", "--sat-per-vbyte", "2")
    mine(6)
    for _ in range(600):
        channels = leyden("ALICE", "listchannels", "--active-only")["channels"]
        if channels and leyden("BOB", "listchannels", "--active-only")["channels"]:
            break
        await asyncio.sleep(0.2)
    await call("status (with a channel)", wallet.status(), lambda status: status.balance.amount > 1_000_000)

    invoice = await call("create_invoice", wallet.create_invoice(Amount(Unit.sat, 1_200), "tea"), lambda made: made.ok)
    await call("get_invoice_status", wallet.get_invoice_status(invoice.checking_id),
               lambda status: status.result == PaymentStatusResult.PENDING)
    stream = wallet.paid_invoices_stream()
    paid = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0.5)
    await asyncio.to_thread(leyden, "BOB", "payinvoice", invoice.payment_request)
    await call("paid_invoices_stream", asyncio.wait_for(paid, 120), lambda hash: hash == invoice.checking_id)
    await call("get_invoice_status (paid)", wallet.get_invoice_status(invoice.checking_id),
               lambda status: status.result == PaymentStatusResult.SETTLED)
    hashed = await call("create_invoice (of a hash)",
                        wallet.create_invoice(Amount(Unit.sat, 5), unhashed_description=b"a longer text"), lambda made: made.ok)

    owed = leyden("BOB", "addinvoice", "2000")
    await call("get_payment_quote", wallet.get_payment_quote(PostMeltQuoteRequest(unit="sat", request=owed["payment_request"])),
               lambda asked: asked.amount.to(Unit.sat).amount == 2_000)
    await call("pay_invoice", wallet.pay_invoice(quote(owed["payment_request"], 2_000), 10_000),
               lambda paid: paid.result == PaymentResult.SETTLED and paid.preimage)
    await call("get_payment_status", wallet.get_payment_status(owed["r_hash"]),
               lambda status: status.result == PaymentStatusResult.SETTLED)
    await call("get_payment_status (of nobody)", wallet.get_payment_status("ab" * 32),
               lambda status: status.result != PaymentStatusResult.SETTLED)
    await call("pay_invoice (paid already)", wallet.pay_invoice(quote(owed["payment_request"], 2_000), 10_000),
               lambda paid: paid.result != PaymentResult.SETTLED)
    await call("create_invoice (nothing asked)", wallet.create_invoice(Amount(Unit.sat, 0)), lambda made: made is not None)
    tell(call="all steps", said=None)


asyncio.run(main())
