"""Running the functions of a test program, all of them or those that its arguments name."""
import sys


def run(tests):
    """Prints a line for each; the exit status of the program."""
    known = [test.__name__ for test in tests]
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        print(f"no test '{unknown[0]}'; known are {', '.join(known)}")
        return 2
    failed = 0
    for test in tests:
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        try:
            test()
            print(f"{test.__name__}: passed")
        except Exception as e:
            print(f"{test.__name__}: FAILED: {type(e).__name__}: {e}")
            failed += 1
    return 1 if failed else 0
