import time
def test_a(finished): pass
def test_b(home, request_for, carry_out):
    for seed in (3,4):
        t=time.perf_counter(); r=carry_out(request_for(seeds=(seed,))); print(r[0].status, time.perf_counter()-t)
    t=time.perf_counter(); r=carry_out(request_for(seeds=(seed,),methods="all")); print([x.status for x in r], [x.reason for x in r], time.perf_counter()-t)
