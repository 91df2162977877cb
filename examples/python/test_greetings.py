import unittest

from greetings import greeting


class Greeting(unittest.TestCase):
    def test_a_name_is_greeted(self):
        self.assertEqual(greeting("Ada"), "Hello, Ada!")

    def test_nobody_in_particular_is_the_world(self):
        self.assertEqual(greeting("  "), "Hello, world!")
