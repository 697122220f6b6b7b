"""How fast Kadre is, measured beside a floor and its rivals in one run on one machine.

Law: whatever is compared is given the same model, the same clients and the same core, in turns, within one run. A
figure from another run or machine is printed as a reference, never divided by.
"""
